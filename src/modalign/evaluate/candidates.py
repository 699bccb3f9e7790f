"""Table of the candidates of the automatic method, from the record of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modalign.evaluate.metrics import percent

HEADER = ("candidate", "accuracy in %", "log-loss", "weight", "seconds")


def candidate_rows(candidates: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row of :data:`HEADER` per candidate: a dash if it was not finished in time, no seconds if not tried.

    Parameters
    ----------
    candidates : sequence of dict
        ``table_`` of :class:`~modalign.methods.auto.auto.Auto`: accuracy and log-loss of held-out predictions, weight
        in the ensemble, and seconds.
    """
    return [
        [
            found["name"],
            "–" if found["accuracy"] is None else percent(found["accuracy"]),
            "–" if found["log_loss"] is None else f"{found['log_loss']:.3f}",
            f"{found['weight']:.2f}" if found["weight"] else "",
            f"{found['seconds']:.1f}" if _was_tried(found) else "",
        ]
        for found in candidates
    ]


def _was_tried(found: dict[str, Any]) -> bool:
    return found["accuracy"] is not None or bool(found["weight"] or found["seconds"])


def unfinished(candidates: Sequence[dict[str, Any]], not_tried: str = "none") -> str | None:
    """Return a sentence that names the candidates that were not fitted in the given time, None if there is none.

    Parameters
    ----------
    candidates : sequence of dict
        As for :func:`candidate_rows`.
    not_tried : str, default="none"
        Names in the ``diagnosis_`` of the method, which decide where no candidate was judged on held-out images.
    """
    names = [found["name"] for found in candidates if found["accuracy"] is None]
    if len(names) == len(candidates):
        names = [name for name in names if name in not_tried.split(", ")]
    if not names:
        return None
    return f"not tried or not finished in the time of the fit: {', '.join(names)}; --time SECONDS gives it more"
