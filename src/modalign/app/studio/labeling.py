"""Labels of the images of a folder; every change is first written to disk as an event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from modalign.app.studio.exam import MOST, exam_key
from modalign.app.studio.label_log import LabelLog
from modalign.app.studio.label_state import NONE, ClassOf, LabelState, last_undoable
from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.core.labels import require_encodable
from modalign.core.name_matching import is_blank, normalize

NO_CLASS = -2
"""In arrays of labels, the label :data:`~modalign.app.studio.label_state.NONE`."""
MOST_NAME = 200  # characters


class Labeling:
    """Labels by image, kept in a log. Not safe for several threads; its owner has a lock.

    A label belongs to the bytes of an image: copies share it, and a file that was moved keeps it. A file whose bytes
    have changed since it was labeled takes the label along, if no other file has the former bytes.

    Parameters
    ----------
    ids : sequence of str
        Names of the n images.
    contents : sequence of str
        Their content hashes.
    log : LabelLog
        Events so far; new ones are appended.
    seed, limit : int
        Of the exam set; see :func:`~modalign.app.studio.exam.exam_limit`.

    Attributes
    ----------
    labels : ndarray of shape (n,)
        Class numbers; −1 unlabeled, −2 none of the classes.
    examined : ndarray of shape (n,)
        Whether the label is an answer of the exam.
    reserved : ndarray of shape (n,)
        Whether the image is of the exam set.
    exam_order : ndarray of int
        Rows of the exam set, in random order.
    state : LabelState
        Classes and labels.
    stamp : int
        Number of changes.
    """

    def __init__(self, ids: Sequence[str], contents: Sequence[str], log: LabelLog, seed: int, limit: int) -> None:
        self.ids, self.contents, self.log = ids, contents, log
        keys = np.array([exam_key(content, seed) for content in contents], dtype=np.uint64)
        below = np.flatnonzero(keys < np.uint64(limit))
        self.exam_order = below[np.argsort(keys[below], kind="stable")][:MOST]  # the folder may have grown
        self.reserved = np.zeros(len(contents), dtype=bool)
        self.reserved[self.exam_order] = True
        self._rows: dict[str, list[int]] = {}
        for row, content in enumerate(contents):
            self._rows.setdefault(content, []).append(row)
        self._changed_at = np.zeros(len(contents), dtype=np.int64)
        self.stamp = 0
        self.state = LabelState.replay(log.events)
        self._follow_changed_files()
        self._rebuild()

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Numbers of the present classes, in order."""
        return tuple(self.state.names)

    @property
    def taught(self) -> np.ndarray:
        """(n,) whether an image has a class and may be learned from: it is not of the exam."""
        return (self.labels >= 0) & ~self.examined

    @property
    def elsewhere(self) -> int:
        """Number of labels of images that are not in the folder any more."""
        return sum(content not in self._rows for content in self.state.labels)

    def exam_truth(self) -> dict[str, int]:
        """Content hash of every image with an exam label → class number; images of none of the classes left out."""
        labels = self.state.labels.items()
        return {c: label.of for c, label in labels if label.exam and isinstance(label.of, int) and c in self._rows}

    def exam_nones(self) -> int:
        """Number of exam images that belong to none of the classes."""
        return sum(label.exam and label.of == NONE and c in self._rows for c, label in self.state.labels.items())

    def row_of(self, content: str) -> int:
        """The first row with these bytes."""
        return self._rows[content][0]

    def label(self, rows: Sequence[int], of: ClassOf | None, *, since: int | None = None, by: str = "user") -> int:
        """Give images a class number, :data:`NONE`, or no label (None); the labels are on the disk when this returns.

        Parameters
        ----------
        rows : sequence of int
            Images.
        of : int, str or None
            The label.
        since : int or None, default=None
            A former :attr:`stamp`.
        by : str, default="user"
            ``"import"`` for labels that :meth:`undo` does not remove.

        Returns
        -------
        int
            Number of the images that were labeled after ``since``, for example by another page.

        Raises
        ------
        InputError
            A row or a class that does not exist.
        FullDiskError
            There is no room for the labels; nothing has changed.
        """
        rows = self._checked(rows)
        if of is not None and of != NONE and of not in self.state.names:
            raise InputError(f"Expected the number of a class, '{NONE}' or null, got {of!r}.")
        others = self._changed_since(rows, since)
        self._record("label", by=by, images=self._images(rows), **{"class": of})
        return others

    def undo(self) -> str | None:
        """Take back the latest change of the user and return its kind; None if there is none."""
        event = last_undoable(self.log.events)
        if event is None:
            return None
        self._record("undo", of=event["n"])
        return str(event["kind"])

    def add_class(self, name: str, *, by: str = "user") -> int:
        """Add a class and return its number."""
        number = self.state.n_classes_ever
        self._record("add", by=by, name=self._new_name(name), **{"class": number})
        return number

    def rename_class(self, number: int, name: str) -> None:
        """Give a class another name."""
        self._require_class(number)
        if name.strip() != self.state.names[number]:
            self._record("rename", by="user", name=self._new_name(name, number), **{"class": number})

    def merge_classes(self, number: int, into: int) -> None:
        """Make every label of one class a label of another, and remove the class."""
        self._require_class(number)
        self._require_class(into)
        if number == into or len(self.state.names) < 3:
            raise InputError("Expected two different classes to merge, of at least three.")
        self._record("merge", by="user", into=into, **{"class": number})

    def _checked(self, rows: Sequence[int]) -> list[int]:
        """The rows, each once."""
        rows = list(dict.fromkeys(rows))
        if not rows or min(rows) < 0 or max(rows) >= len(self):
            raise InputError(f"Expected rows in 0…{len(self) - 1}, got {rows[:3]}.")
        return rows

    def _changed_since(self, rows: list[int], since: int | None) -> int:
        return 0 if since is None else int((self._changed_at[rows] > since).sum())

    def _images(self, rows: list[int]) -> list[list[Any]]:
        """The rows as an event has them."""
        return [[self.ids[r], self.contents[r], int(self.reserved[r])] for r in rows]

    def _record(self, kind: str, **entries: Any) -> None:
        """Write an event, then change the state, so that every shown label is on the disk."""
        event = self.log.append(kind, **entries)
        self.stamp += 1
        if kind in ("label", "sets"):
            self.state.apply(event)
            for _, content, _ in event["images"]:
                self._show(content)
        else:
            self.state = LabelState.replay(self.log.events)
            self._rebuild()

    def _rebuild(self) -> None:
        self.labels = np.full(len(self), UNLABELED, dtype=np.int64)
        self.examined = np.zeros(len(self), dtype=bool)
        for content in self.state.labels:
            self._show(content, stamped=False)

    def _show(self, content: str, *, stamped: bool = True) -> None:
        """Write the label of all images with these bytes into the arrays."""
        label, rows = self.state.labels.get(content), self._rows.get(content, [])
        self.labels[rows] = UNLABELED if label is None else self._code(label.of)
        self.examined[rows] = label is not None and label.exam
        if stamped:
            self._changed_at[rows] = self.stamp

    def _code(self, of: ClassOf) -> int:
        """Return the value of a label in :attr:`labels`."""
        return of if isinstance(of, int) else NO_CLASS

    def _follow_changed_files(self) -> None:
        """Label files whose bytes have changed as they were labeled before."""
        row_of_id = {name: row for row, name in enumerate(self.ids)}
        moved: dict[ClassOf, list[list[Any]]] = {}
        for name, content in self.state.hash_of.items():
            row, label = row_of_id.get(name), self.state.labels.get(content)
            if row is not None and label is not None and content not in self._rows:
                moved.setdefault(label.of, []).append([name, self.contents[row], int(label.exam)])
        for of, images in moved.items():
            new = [image for image in images if image[1] not in self.state.labels]
            if new and isinstance(of, tuple):
                self.state.apply(self.log.append("sets", by="changed file", images=new, sets=[of] * len(new)))
            elif new:
                self.state.apply(self.log.append("label", by="changed file", images=new, **{"class": of}))

    def _require_class(self, number: int) -> None:
        if number not in self.state.names:
            raise InputError(f"Expected the number of a class, got {number!r}.")

    def _new_name(self, name: str, own: int | None = None) -> str:
        return checked_name(name, (other for number, other in self.state.names.items() if number != own))


def checked_name(name: str, others: Iterable[str]) -> str:
    """Return the name of a new class, on one line with single blanks between words.

    Raises
    ------
    InputError
        The name is blank, too long, not encodable, or one of the ``others`` apart from case and blanks.
    """
    name = " ".join(name.split())
    require_encodable([name], "the studio")
    if is_blank(name) or len(name) > MOST_NAME:
        got = "none that is visible" if is_blank(name) else len(name)
        raise InputError(f"Expected a class name of 1 to {MOST_NAME} characters, got {got}.")
    same = next((other for other in others if normalize(other) == normalize(name)), None)
    if same is not None:
        raise InputError(f"Expected a new class name, got '{name}', which is the class '{same}'.")
    return name
