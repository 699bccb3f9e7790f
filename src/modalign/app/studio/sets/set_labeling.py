"""Labels of images that may show several classes: a set of class numbers for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from modalign.app.studio.label_state import ClassOf
from modalign.app.studio.labeling import Labeling
from modalign.core.errors import InputError
from modalign.core.label_matrix import ABSENT, PRESENT, UNKNOWN, check_separable

LABELED = 0
"""In :attr:`SetLabeling.labels`, the label of every image with a set, empty or not."""


class SetLabeling(Labeling):
    """A :class:`Labeling` whose labels are sets; ``labels`` is −1 without a set and :data:`LABELED` with one."""

    def set_of(self, row: int) -> tuple[int, ...] | None:
        """The classes that an image shows as labeled; None without a label."""
        label = self.state.labels.get(self.contents[row])
        return None if label is None else as_set(label.of)

    def matrix(self, class_ids: Sequence[int]) -> np.ndarray:
        """(n, C) of the labels, int8: 1 shown, 0 not shown, −1 in every column without a label."""
        place = {number: k for k, number in enumerate(class_ids)}
        found = np.full((len(self), len(class_ids)), UNKNOWN, dtype=np.int8)
        for content, label in self.state.labels.items():
            if rows := self._rows.get(content):
                found[rows] = ABSENT
                found[np.ix_(rows, [place[number] for number in as_set(label.of) if number in place])] = PRESENT
        return found

    def label_sets(
        self,
        rows: Sequence[int],
        classes: Sequence[int] | None,
        *,
        how: Literal["set", "add", "remove"] = "set",
        since: int | None = None,
        by: str = "user",
    ) -> int:
        """Give images a set of classes, or add classes to their sets or take them away; as :meth:`Labeling.label`.

        Parameters
        ----------
        rows : sequence of int
            Images.
        classes : sequence of int or None
            Class numbers; empty for an image that shows none of the classes, None to take the label away.
        how : {"set", "add", "remove"}, default="set"
            An image without a label has the empty set before.
        since, by : object
            As for :meth:`Labeling.label`.

        Returns
        -------
        int
            How many of the images were labeled after ``since``.
        """
        rows = self._checked(rows)
        if unknown := [number for number in classes or () if number not in self.state.names]:
            raise InputError(f"Expected numbers of classes, got {unknown[:3]}.")
        others = self._changed_since(rows, since)
        given = None if classes is None else frozenset(classes)
        sets = [self._combined(row, given, how) for row in rows]
        self._record("sets", by=by, images=self._images(rows), sets=sets)
        return others

    def _combined(self, row: int, given: frozenset[int] | None, how: str) -> list[int] | None:
        if given is None:
            return None
        before = frozenset(self.set_of(row) or ())
        return sorted({"set": given, "add": before | given, "remove": before - given}[how])

    def _new_name(self, name: str, own: int | None = None) -> str:
        check_separable([name])
        return super()._new_name(name, own)

    def _code(self, of: ClassOf) -> int:
        return LABELED


def as_set(of: ClassOf) -> tuple[int, ...]:
    """A label as a set of class numbers."""
    if isinstance(of, tuple):
        return of
    return (of,) if isinstance(of, int) else ()
