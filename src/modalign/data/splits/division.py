"""Train, validation and test images of a source, inferred from folder names."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DIVISIONS = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "tests": "test",
    "testing": "test",
    "holdout": "test",
    "heldout": "test",
    "eval": "test",
    "evaluation": "test",
}
"""Words for the parts of a data set. An evaluation set counts as a test set, so that it is not used for training."""

_FILLERS = re.compile(  # test_set, val images, testset, train2017, images_train, 1-test
    r"[\W_]+(set|data|images|imgs|split)$|set$|\d{4}$|^(data|images|imgs|split|\d+)[\W_]+"
)

PURPOSES = {
    "train": "to learn from",
    "validation": "to validate",
    "test": "to test on",
    "unlabeled": "that count as unlabeled",
}
"""Part → purpose of its images."""

_USES = {"train": "learning", "validation": "validation", "test": "testing"}

Folders = tuple[str, ...]


def purposes(parts: Sequence[str]) -> str:
    """Describe the number of images per part; ``parts`` has one entry per image."""
    count = Counter(parts)
    phrases = [f"{count[part]} images {purpose}" for part, purpose in PURPOSES.items() if count[part]]
    rest = [f"{count['']} of no part, which are not used"] if count[""] else []
    return ", ".join(phrases + rest)


def part_called(name: str) -> str:
    """Return the part that a folder name or column value denotes: "train", "validation", "test", or ""."""
    plain = unicodedata.normalize("NFKC", name).strip().casefold()
    return DIVISIONS.get(plain) or DIVISIONS.get(_FILLERS.sub("", plain), "")


def part_within(name: str) -> str:
    """Return the part that a word within a name denotes: "train" for ``digits_train``, ``train1``; "" if none does."""
    words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFKC", name).casefold())
    found = {DIVISIONS[word] for word in words if word in DIVISIONS}
    return found.pop() if len(found) == 1 else ""


@dataclass(frozen=True)
class Division:
    """Division of a source by its folders; see :func:`divide_folders`.

    Attributes
    ----------
    names : dict of str to tuple of str
        Part → names of its folders, in natural order of the folders that hold them.
    default : str
        Part of images outside these folders; "" if not specified.
    clear, bare : frozenset of tuple of str
        Divided folders; ``clear`` has priority over ``bare``, see :func:`divide_folders`.
    loose : frozenset of tuple of str
        Folders of ``clear`` whose sub-folders name a part by one of their words.
    several : tuple of str, default=()
        Names of the data sets, if the source holds more than one: folders with parts and with classes in these.
    """

    names: dict[str, tuple[str, ...]]
    default: str
    clear: frozenset[Folders]
    bare: frozenset[Folders]
    loose: frozenset[Folders] = frozenset()
    several: tuple[str, ...] = ()

    def place(self, folders: Sequence[str]) -> tuple[str, Folders]:
        """The part of an image in ``folders``, and these folders without the ones that name the part."""
        depth = _root((*folders,), self.clear, self.bare)
        part = "" if depth is None else self.part_in((*folders[:depth],), folders[depth])
        if depth is None or not part:
            return self.default, tuple(folders)
        end = depth + 1
        while end < len(folders) and part_called(folders[end]) == part:  # unpacked archives: train/train/…
            end += 1
        return part, (*folders[:depth], *folders[end:])

    def part_in(self, root: Folders, name: str) -> str:
        """The part that the sub-folder ``name`` of a divided folder stands for, "" if it is none."""
        return part_called(name) or (part_within(name) if root in self.loose else "")

    def __str__(self) -> str:
        named = [f"'{name}' ({_USES[part]})" for part in _USES for name in self.names.get(part, ())]
        return f"the folders {', '.join(named)}"


def divide_folders(
    images: Iterable[Sequence[str]], empty: Iterable[Sequence[str]] = (), *, alone: bool = True
) -> Division | None:
    """Find the folders that divide a source, at any depth: ``train/cat/``, ``cat/train/``, ``data/train/images/cat/``.

    A folder is clearly divided if two of its sub-folders name different parts, or if one names a part and contains
    folders with the same names as its siblings: ``test/cat/`` next to ``cat/``, which is then for training. The parts
    may be words of longer names, ``digits_train/cat/`` and ``digits_test/cat/``, if these contain the same folders. A
    folder is barely divided if all its sub-folders name one part. A class called "train" among other classes does not
    divide its folder.

    Parameters
    ----------
    images : iterable of sequence of str
        Folders that contain each image, outermost first.
    empty : iterable of sequence of str, default=()
        Folders without an image.
    alone : bool, default=True
        Whether a source with test images only, or validation images only, counts as divided. False for lists of paths.

    Returns
    -------
    Division or None
        None if nothing is divided. Time linear in the number of images.
    """
    above = dict.fromkeys(tuple(folders) for folders in images)
    inside: dict[Folders, set[str]] = defaultdict(set)
    for folders in (*above, *map(tuple, empty)):
        for depth, name in enumerate(folders):
            inside[folders[:depth]].add(name)
    loose = frozenset(root for root in inside if _is_loose(root, inside))
    clear = loose | {root for root in inside if _is_clear(root, inside)}
    bare = frozenset(root for root in inside if all(part_called(name) for name in inside[root])) - clear
    used = {folders[:level] for folders in above if (level := _root(folders, clear, bare)) is not None}
    plain = Division({}, "", clear, bare, loose)
    parts = {plain.place(folders)[0] for folders in above}
    default = (
        "" if "train" in parts or "" not in parts else "train"
    )  # only other parts are named: the rest is for training
    distinct = {part or default for part in parts} - {""}
    whole = alone and parts and not parts & {"", "train"}
    if len(distinct) < 2 and not used & clear and not whole:
        return None
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for root in sorted(used):
        for name in sorted(inside[root]):
            if part := plain.part_in(root, name):
                names[part][name] = None
    several = sorted(root[-1] for root in used & clear if root and len(_classes(root, inside)) > 1)
    by_part = {part: tuple(known) for part, known in names.items()}
    return Division(by_part, default, clear, bare, loose, tuple(several) if len(several) > 1 else ())


def _root(folders: Folders, clear: frozenset[Folders], bare: frozenset[Folders]) -> int | None:
    """Return the depth of the divided folder that determines the part of an image in ``folders``."""
    depths = range(len(folders))
    return next((d for roots in (clear, bare) for d in depths if folders[:d] in roots), None)


def _is_clear(root: Folders, inside: dict[Folders, set[str]]) -> bool:
    parts = {name for name in inside[root] if part_called(name)}
    if len({part_called(name) for name in parts}) > 1:
        return True
    classes = _classes(root, inside)
    return bool(classes) and classes <= inside[root] - parts


def _is_loose(root: Folders, inside: dict[Folders, set[str]]) -> bool:
    """Return whether the names of two sub-folders contain words for two parts, and one contains all of the other.

    If another sub-folder has the same content, they are classes with such names.
    """
    parts = {name: part for name in inside[root] if (part := part_within(name))}
    if len(set(parts.values())) < 2:
        return False
    held: dict[str, set[str]] = defaultdict(set)
    for name, part in parts.items():
        held[part] |= inside.get((*root, name), set())
    least, *others = sorted(held.values(), key=len)
    beside = set().union(*(inside.get((*root, name), set()) for name in inside[root] - set(parts)))
    return bool(least) and all(least <= other for other in others) and not least & beside


def _classes(root: Folders, inside: dict[Folders, set[str]]) -> set[str]:
    """Names of the folders inside the parts of ``root``."""
    return set().union(*(inside.get((*root, name), set()) for name in inside[root] if part_called(name)))
