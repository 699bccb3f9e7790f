"""Classes and labels after the events of the log.

============  ====================================================================================
``add``       ``class`` (number), ``name``
``rename``    ``class``, ``name``
``merge``     ``class``, ``into``: every label of the first becomes one of the second
``label``     ``class`` (number, ``"none"`` for none of the classes, null to take labels away) and
              ``images``, a list of [id, content hash, 1 if the image is of the exam set else 0]
``sets``      ``images`` as above, and ``sets``: for each a list of class numbers, empty for none of the
              classes, or null to take its label away; of a studio of several classes per image
``undo``      ``of``: the number of an event that no longer counts
============  ====================================================================================

Events of a user have ``"by": "user"``; others come from the folder or the file of classes and are never undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NONE = "none"
"""The label of images that belong to none of the classes."""

ClassOf = int | str | tuple[int, ...]


class Label(NamedTuple):
    """The label of an image and whether it is an answer of the exam.

    The label is a class number or :data:`NONE`, or where an image may show several classes their numbers, sorted.
    """

    of: ClassOf
    exam: bool


@dataclass
class LabelState:
    """Classes and labels after some events.

    A label of a class that is not there is none: adding it may be undone after the label has followed a changed file.

    Attributes
    ----------
    names : dict of int to str
        Number of every present class → name, in the order in which they were added.
    labels : dict of str to Label
        Content hash → label.
    hash_of : dict of str to str
        Image id → content hash when it was last labeled, for files whose content has changed.
    into : dict of int to int
        Number of a class that was merged → the class that it became part of.
    ever : set of str
        All names that a class ever had.
    n_classes_ever : int
        The next class gets this number.
    """

    names: dict[int, str] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    hash_of: dict[str, str] = field(default_factory=dict)
    into: dict[int, int] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    n_classes_ever: int = 0

    @classmethod
    def replay(cls, events: Iterable[Mapping[str, Any]]) -> LabelState:
        """The state after all events that were not undone."""
        events = list(events)
        undone = {event["of"] for event in events if event["kind"] == "undo"}
        state = cls()
        for event in events:
            if event["kind"] == "add":
                state.n_classes_ever = max(state.n_classes_ever, event["class"] + 1)  # numbers are not used again
            if event["n"] not in undone:
                state.apply(event)
        return state

    def apply(self, event: Mapping[str, Any]) -> None:
        """Add one event; unknown kinds are ignored."""
        kind = event["kind"]
        if kind in ("add", "rename"):
            self.names[event["class"]] = event["name"]
            self.ever.add(event["name"])
            self.n_classes_ever = max(self.n_classes_ever, event["class"] + 1)
        elif kind == "merge":
            self._merge(event["class"], event["into"])
        elif kind == "label":
            self._label([event["class"]] * len(event["images"]), event["images"])
        elif kind == "sets":
            self._label([None if of is None else tuple(sorted(set(of))) for of in event["sets"]], event["images"])

    def resolve(self, number: int) -> int:
        """The present number of a class that may have been merged."""
        while number in self.into:
            number = self.into[number]
        return number

    def _merge(self, old: int, new: int) -> None:
        if old == new or not {old, new} <= self.names.keys():
            return
        del self.names[old]
        self.into[old] = new
        for content, label in self.labels.items():
            if label.of == old:
                self.labels[content] = Label(new, label.exam)
            elif isinstance(label.of, tuple) and old in label.of:
                self.labels[content] = Label(tuple(sorted({new, *label.of} - {old})), label.exam)

    def _label(self, labels: Iterable[ClassOf | None], images: Iterable[tuple[str, str, int]]) -> None:
        for of, (name, content, exam) in zip(labels, images, strict=True):
            if isinstance(of, tuple):
                of = tuple(number for number in of if number in self.names)
            if of is None or (isinstance(of, int) and of not in self.names):
                self.labels.pop(content, None)
            else:
                self.labels[content] = Label(of, bool(exam))
                self.hash_of[name] = content


def last_undoable(events: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The latest event of the user that is not undone."""
    events = list(events)
    undone = {event["of"] for event in events if event["kind"] == "undo"}
    mine = (e for e in reversed(events) if e.get("by") == "user" and e["kind"] != "undo" and e["n"] not in undone)
    return next(mine, None)
