"""Results that are saved one by one, so that an interrupted benchmark can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modalign.core.files.appending import append_line
from modalign.core.record import plain


class Record:
    """Figures of runs, keyed by the settings of the run; one JSON object per line of a file.

    Parameters
    ----------
    path : the file, made when first written; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else ():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # of a run that was killed while it wrote
                continue
            self._known[_key(entry["run"])] = entry["figures"]

    def get(self, run: Mapping[str, Any]) -> dict[str, Any] | None:
        """The figures of a run that was measured before."""
        return self._known.get(_key(run))

    def add(self, run: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
        """Keep the figures of a run."""
        self._known[_key(run)] = dict(figures)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._path, json.dumps({"run": plain(run), "figures": plain(figures)}).encode())


def _key(run: Mapping[str, Any]) -> str:
    return json.dumps(plain(run), sort_keys=True)
