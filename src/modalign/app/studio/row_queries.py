"""Data of the page: rows of images in some order, and the state of the session in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from modalign.app.studio.acquire import ACQUISITIONS
from modalign.app.studio.exam import LEAST_SHOWN, SHARE
from modalign.app.studio.label_state import NONE
from modalign.app.studio.session import Session
from modalign.core.display import visible
from modalign.core.errors import InputError, require_choice
from modalign.core.features import UNLABELED

SHOWS = ("all", "unlabeled", "labeled", "exam", "none", "disagreement", "listed")
ORDERS = ("given", "uncertain", "confident", "suspect", "similar", "text")
MOST_ROWS = 500


@dataclass(frozen=True)
class RowQuery:
    """Images to list, and their order.

    Attributes
    ----------
    show : str, default="all"
        One of :data:`SHOWS`. Exam images without a label are in none of them.
    order : str, default="given"
        One of :data:`ORDERS`.
    predicted, labeled : int, str or None, default=None
        Only images that are predicted, or labeled, as this class.
    to : int or None, default=None
        The row that ``"similar"`` compares with.
    text : str, default=""
        The sentence that ``"text"`` compares with; without a text tower, part of a file name.
    """

    show: str = "all"
    order: str = "given"
    predicted: int | None = None
    labeled: int | Literal["none"] | None = None
    to: int | None = None
    text: str = ""


def find_rows(session: Session, query: RowQuery) -> np.ndarray:
    """All rows of a :class:`RowQuery`, in order. O(n log n), and O(n d) to compare vectors."""
    require_choice("show", query.show, SHOWS)
    require_choice("order", query.order, ORDERS)
    with session.lock:
        labels, examined = session.labeling.labels, session.labeling.examined
        hidden = session.labeling.reserved & (labels == UNLABELED)
        keep = ~hidden & _shown(session, query.show)
        if query.predicted is not None:
            keep &= session.predicted_as(query.predicted)
        if query.labeled is not None:
            keep &= session.labeled_as(query.labeled)
        if query.show == "labeled":
            keep &= ~examined
        by_name = query.order == "text" and not session.encoder.has_text
        if by_name and query.text:
            part = query.text.casefold()
            keep &= np.array([part in name.casefold() for name in session.labeling.ids], dtype=bool)
        rows = np.flatnonzero(keep)
        if query.show == "listed" and query.order == "given":
            return np.array([row for row in session.settings.listed if keep[row]], dtype=np.int64)
        if query.order == "given" or by_name or (query.order == "text" and not query.text.strip()):
            return rows
        return rows[np.argsort(_key(session, query)[rows], kind="stable")]


def _shown(session: Session, show: str) -> np.ndarray:
    labels, examined = session.labeling.labels, session.labeling.examined
    if show == "unlabeled":
        return labels == UNLABELED
    if show == "labeled":
        return labels != UNLABELED
    if show == "exam":
        return examined
    if show == "none":
        return session.labeled_as(NONE)
    if show == "disagreement":
        return session.doubted()
    if show == "listed":
        return np.isin(np.arange(len(labels)), session.settings.listed)
    return np.ones(len(labels), dtype=bool)


def _key(session: Session, query: RowQuery) -> np.ndarray:
    """Sort key of ``query.order``, ascending."""
    if query.order == "uncertain":
        return session.margin
    if query.order == "confident":
        return -session.top
    if query.order == "suspect":
        return np.where(session.labeling.labels >= 0, session.label_probability, 2.0)
    if query.order == "similar":
        if query.to is None:
            raise InputError("Expected the row to compare with, got none.")
        return -session.similarity(query.to)
    return -session.text_similarity(query.text.strip())


def row_entries(session: Session, rows: list[int], *, blind: bool = False) -> list[dict[str, Any]]:
    """Return the data of the tile of each row; without predictions of exam images while ``blind``."""
    labeling, found = session.labeling, []
    for row in rows:
        label, exam = session.label_of(row), bool(labeling.reserved[row] or labeling.examined[row])
        hidden = exam and (blind or label is None)
        order = [] if hidden or not session.answers.method else _likeliest(session.answers.probabilities[row])
        found.append(
            {
                "row": row,
                "id": visible(labeling.ids[row]),
                "content": labeling.contents[row],
                "best": [[session.answers.class_ids[k], round(float(p), 4)] for k, p in order],
                "label": label,
                "shown": [] if hidden else session.predicted_set(row),
                "exam": exam,
                "gone": session.gallery.missing.get(row),
            }
        )
    return found


def _likeliest(P: np.ndarray, k: int = 3) -> list[tuple[int, float]]:
    best = np.argsort(-P, kind="stable")[:k]
    return [(int(i), float(P[i])) for i in best]


def session_summary(session: Session) -> dict[str, Any]:
    """The state of a session in numbers."""
    with session.lock:
        labeling, answers = session.labeling, session.answers
        free = ~labeling.reserved
        return {
            "version": session.version,
            "stamp": labeling.stamp,
            "title": visible(session.settings.title),
            "images": len(labeling),
            "classes": [
                {
                    "id": number,
                    "name": visible(name),
                    "labeled": int((session.labeled_as(number) & labeling.taught).sum()),
                    "predicted": int((session.predicted_as(number) & free).sum()),
                }
                for number, name in labeling.state.names.items()
            ],
            "counts": {
                "taught": int(labeling.taught.sum()),
                "exam": int(labeling.examined.sum()),
                "none": int(session.labeled_as(NONE).sum()),
                "reserved": int(labeling.reserved.sum()),
                "gone": len(session.gallery.missing),
                "elsewhere": labeling.elsewhere,
            },
            "method": {
                "name": answers.method,
                "labels": answers.n_labels,
                "seconds": round(answers.seconds, 2),
                "thorough": answers.thorough,
            },
            **session.graded(),
            "least_shown": LEAST_SHOWN,
            "least_images": LEAST_SHOWN * SHARE,
            "jobs": {"fast": session.fast.state(), "slow": session.slow.state()},
            "map": None if session.positions is None else session.positions[2],
            "listed": len(session.settings.listed),
            "reads_text": session.encoder.has_text,
            "encoder": visible(session.encoder.name),
            "acquisitions": ACQUISITIONS,
            "notes": [visible(note) for note in session.settings.notes],
            "folder": visible(str(labeling.log.folder)),
        }
