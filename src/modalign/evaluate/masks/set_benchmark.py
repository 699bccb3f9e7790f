"""The segmentation protocol: data sets × features × with and without the map of GPUA, resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, argument, require_choice
from modalign.core.files import append_line
from modalign.core.progress import track
from modalign.core.record import plain, versions
from modalign.encoders.base import Encoder
from modalign.evaluate.masks.set_runs import HEADER, run_segmentation_set
from modalign.evaluate.publications.bench_commands import SEGMENTERS
from modalign.evaluate.result_files import check_record, parse_entries, read_lines, sole_record
from modalign.segmentation.dense import FEATURES
from modalign.segmentation.photos import identity, open_encoder
from modalign.segmentation.sets.segmentation_root import inspect_segmentation_sets
from modalign.segmentation.sets.segmentation_sets import segmentation_set

_FAMILY, _VERSION = "modalign-segmentation-bench", 1


@dataclass(frozen=True)
class SegmentationCell:
    """One kind of features on one data set.

    Attributes
    ----------
    dataset : str
        Name of the data set, as in ``modalign list datasets``.
    features : str
        Kind of features.
    mapped : bool
        Whether the map of GPUA is applied.
    cells : tuple of str
        The line of the table, in the order of ``header``.
    result : dict
        The scores, the published number and the settings; see :class:`~modalign.evaluate.masks.set_runs.SetRow`.
    """

    dataset: str
    features: str
    mapped: bool
    cells: tuple[str, ...]
    result: dict[str, Any]


@dataclass(frozen=True)
class SegmentationBenchmark:
    """Mean IoU of several kinds of features on several data sets, with the published numbers.

    Attributes
    ----------
    rows : tuple of SegmentationCell
        In the order data set, features, without and with the map.
    missing : dict of str to str
        Data set → reason why it was left out.
    """

    rows: tuple[SegmentationCell, ...]
    missing: dict[str, str]

    @property
    def header(self) -> list[str]:
        """Titles of the columns."""
        return HEADER

    @property
    def table(self) -> list[list[str]]:
        """The lines."""
        return [list(row.cells) for row in self.rows]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"rows": [vars(row) for row in self.rows], "missing": self.missing, "versions": versions()}


def run_segmentation_benchmark(
    root: str | Path,
    *,
    encoder: str | Path | Encoder,
    features: str | Sequence[str] = "all",
    datasets: Sequence[str] | None = None,
    vfm: str | Path | Encoder | None = None,
    record: str | Path | None = None,
    device: str = "auto",
) -> SegmentationBenchmark:
    """Measure kinds of features on segmentation data sets, as in Tables 2 and 8 of GPUA's paper.

    Parameters
    ----------
    root : str or Path
        The data root.
    encoder : str, Path or Encoder
        The vision-language encoder.
    features : str or sequence of str, default="all"
        Kinds of features; ``"all"`` for those with a published number that need no more than is given.
    datasets : sequence of str or None, default=None
        Names; by default all that are complete in the root.
    vfm : str, Path, Encoder or None, default=None
        A vision-only encoder; with it, every kind is also measured with the map of GPUA.
    record : str, Path or None, default=None
        Results file (.jsonl); results in the file are not measured again.
    device : str, default="auto"
        Device of the encoders.

    Returns
    -------
    SegmentationBenchmark
        A row per data set, kind and map.

    Raises
    ------
    InputError
        No data set, or a name that does not exist.
    """
    clip = open_encoder(encoder, device)
    vision = None if vfm is None else open_encoder(vfm, device)
    kinds = [kind for kind in SEGMENTERS if kind != "proxy" or vision is not None] if features == "all" else features
    for kind in kinds:
        require_choice("features", kind, FEATURES)
    if record is not None:
        check_record(record, _parse)
    names, missing = _datasets(root, datasets)
    same = {"encoder": identity(clip.spec), "vfm": None if vision is None else identity(vision.spec)}
    wanted = list(product(names, kinds, (False,) if vision is None else (False, True)))
    rows = []
    with sole_record(record):
        known = {} if record is None or not Path(record).is_file() else dict(read_lines(record, _parse))
        for name, kind, mapped in track(wanted, "segmentation data sets", unit="runs"):
            key = json.dumps(plain([name, kind, mapped, same]), sort_keys=True)
            if key not in known:
                row = run_segmentation_set(
                    name, root, encoder=clip, features=[kind], gpua="with" if mapped else "without", vfm=vision,
                    strict=False, device=device,
                )[0]  # fmt: skip
                known[key] = SegmentationCell(name, kind, mapped, tuple(row.cells), plain(row.as_dict()))
                if record is not None and row.scores is not None:  # rows without a result are measured again
                    line = {"format": f"{_FAMILY}-{_VERSION}", "key": key, "row": vars(known[key])}
                    append_line(Path(record), json.dumps(line, ensure_ascii=False).encode())
            rows.append(known[key])
    return SegmentationBenchmark(tuple(rows), missing)


def _datasets(root: str | Path, requested: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """The data sets to measure, and what was left out."""
    if requested is not None:
        return [segmentation_set(name).name for name in requested], {}
    found = inspect_segmentation_sets(root)
    names = [each.name for each in found if each.state == "ready"]
    if not names:
        raise InputError(
            f"Expected a segmentation data set in '{root}', got none that is complete; see: modalign doctor --data "
            f"{root}, or name one with {argument('datasets')}."
        )
    return names, {each.name: each.found for each in found if each.state != "ready"}


def _parse(line: str) -> tuple[str, SegmentationCell]:
    """Key and row of a line of the record."""
    entry = parse_entries(line, _FAMILY, _VERSION)
    row = dict(entry["row"])
    return entry["key"], SegmentationCell(**row | {"cells": tuple(row["cells"])})
