"""Division of images into train, validation and test lists, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.arrays import is_integer
from modalign.core.errors import InputError
from modalign.core.files import read_json, write
from modalign.core.renaming import FORMER_PARTS, former_attributes
from modalign.data.itemset import PART, Items
from modalign.data.names import quoted

EMPTY = np.empty(0, dtype=np.int64)
FORMAT = "modalign-split-1"
PARTS = ("train", "validation", "test", "unlabeled")


@former_attributes(unlabelled="unlabeled")
@dataclass(frozen=True, eq=False)
class Split:
    """Division of n images. ``train``, ``validation`` and ``test`` are disjoint.

    Attributes
    ----------
    train : ndarray
        Indices of labeled training images.
    validation : ndarray
        Indices of images to select hyper-parameters on.
    test : ndarray
        Indices of images for the final evaluation.
    unlabeled : ndarray
        Indices of images used without their labels; disjoint from ``test`` unless the protocol is transductive, which
        the description then states.
    seed : int or None, default=None
        Seed of the draw; None if nothing was drawn.
    description : str, default=""
        Description of the protocol.
    notes : tuple of str, default=()
        Deviations from the requested draw.

    Examples
    --------
    >>> import modalign as ma
    >>> import numpy as np
    >>> y = np.repeat([0, 1], 10)
    >>> split = ma.few_shot(y, shots=2, seed=0, test=0.5)
    >>> len(split.train), len(split.validation), len(split.test)
    (4, 4, 10)
    """

    train: np.ndarray
    validation: np.ndarray = field(default_factory=EMPTY.copy)
    test: np.ndarray = field(default_factory=EMPTY.copy)
    unlabeled: np.ndarray = field(default_factory=EMPTY.copy)
    seed: int | None = None
    description: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in PARTS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))

    @classmethod
    def by_part(cls, parts: np.ndarray, description: str) -> Split:
        """Make a split from the part of each image, (n,) str; images without a part are in none of the lists."""
        train, validation, test, unlabeled = (np.flatnonzero(parts == name) for name in PARTS)
        return cls(train, validation, test, unlabeled, description=description)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(getattr(self, name))}" for name in PARTS)
        return f"Split({sizes}, seed {self.seed}: {self.description})"

    def require(self, n: int) -> None:
        """Raise unless this is a valid split of n images."""
        for name in PARTS:
            index = getattr(self, name)
            if len(index) and not (index.min() >= 0 and index.max() < n):
                raise InputError(f"Expected a split of these {n} images, its {name} list holds image {index.max()}.")

    def save(self, path: str | Path, items: Items) -> Path:
        """Write the split as JSON with ids, so that it stays valid when images are added; atomic."""
        if len(set(items.ids)) < len(items):
            raise InputError("Expected items with unique ids to save a split of, got the same id twice.")
        content = {
            "format": FORMAT,
            "description": self.description,
            "seed": self.seed,
            "notes": list(self.notes),
            "class_names": list(items.class_names),
            **{name: [items.ids[i] for i in getattr(self, name)] for name in PARTS},
        }
        return write(path, json.dumps(content, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | Path, items: Items) -> Split:
        """Read a file of :meth:`save` and find its ids in ``items``; missing ids are counted in ``notes``."""
        content = read_json(path, "a split file")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"Expected a split file of format {FORMAT}, '{path}' is not one.")
        place = {name: i for i, name in enumerate(items.ids)}
        parts, gone = {}, []
        for part in PARTS:
            ids = content.get(part, content.get(FORMER_PARTS.get(part, ""), []))
            if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
                raise InputError(f"Expected a list of ids as '{part}' in '{path}'.")
            gone += [name for name in ids if name not in place]
            parts[part] = np.array([place[name] for name in ids if name in place], dtype=np.int64)
        if gone and not any(map(len, parts.values())):
            raise InputError(
                f"Expected the images of '{path}' among the {len(items)} items, none is there, such as "
                f"{quoted(gone, 2)}; is it the split of another folder?"
            )
        notes, names, seed, description = _about(content, path)
        learned = [i for part in PARTS[:3] for i in parts[part].tolist()]
        if len(set(learned)) < len(learned):
            raise InputError(f"Expected every image once among train, validation and test in '{path}', got one twice.")
        if gone:
            are = "image of the split is" if len(gone) == 1 else "images of the split are"
            notes.append(f"{len(gone)} {are} no longer there, such as {quoted(gone, 2)}")
        if names != list(items.class_names):
            notes.append(f"the class names have changed since the split was made, then {len(names)} classes")
        return cls(**parts, seed=seed, description=description, notes=tuple(notes))


def _about(content: dict[str, Any], path: str | Path) -> tuple[list[str], list[str], int | None, str]:
    """Notes, class names, seed and description of a split file."""
    notes, names = content.get("notes", []), content.get("class_names", [])
    seed, description = content.get("seed"), content.get("description", "")
    texts = isinstance(notes, list) and isinstance(names, list) and all(isinstance(t, str) for t in [*notes, *names])
    whole = seed is None or is_integer(seed)
    if not texts or not whole or not isinstance(description, str):
        raise InputError(f"The split file '{path}' is damaged: its notes, class names, seed or description are none.")
    return notes, names, seed, description


def official_split(items: Items) -> Split | None:
    """Return the split that the source defines by folders, a column or a split file; None if there is none.

    Images without a part are in none of the lists.

    Raises
    ------
    InputError
        If the source contains several data sets.
    """
    if items.trouble:
        raise InputError(items.trouble)
    if not items.division:
        return None
    return Split.by_part(items.parts, items.division)


def mark(items: Items, split: Split) -> Items:
    """Return the items with the parts of a split; an image in several of its lists counts as test."""
    split.require(len(items))
    parts = np.full(len(items), "", PART)
    for name in reversed(PARTS):
        parts[getattr(split, name)] = name
    parts[split.test] = "test"
    return replace(items, parts=parts, division=split.description or "the given split", trouble="")


def images_to_test_on(items: Items) -> Items:
    """Return the images that the source marks as test, or all images and a note if it marks none."""
    official = official_split(items)
    if official is None or not len(official.test):
        return items
    part = items.select(official.test)
    note = f"tested on the {len(part)} of {len(items)} images that are marked as test by {items.division}"
    others = (other for other in part.notes if not other.startswith(f"divided by {items.division}"))  # says the same
    return replace(part, notes=(*others, note))
