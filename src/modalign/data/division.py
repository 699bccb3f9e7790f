"""Which images a source marks as train, validation or test, read off the folders that they lie in."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DIVISIONS = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""Words for the parts of a data set. An evaluation set counts as a test set: then nothing is learned from it."""

_FILLERS = re.compile(r"[\W_]+(set|data|images|imgs|split)$|set$|\d{4}$")  # test_set, val images, testset, train2017

PURPOSES = {
    "train": "to learn from",
    "validation": "to validate",
    "test": "to test on",
    "unlabelled": "that count as unlabelled",
}
"""What the images of each part are for, in words."""

_USES = {"train": "learning", "validation": "validation", "test": "testing"}

Folders = tuple[str, ...]


def purposes(parts: Sequence[str]) -> str:
    """How many images are for what, in words; ``parts`` has one entry per image."""
    count = Counter(parts)
    said = [f"{count[part]} images {purpose}" for part, purpose in PURPOSES.items() if count[part]]
    rest = [f"{count['']} of no part, which are not used"] if count[""] else []
    return ", ".join(said + rest)


def part_called(name: str) -> str:
    """The part that a folder or a value of a column names: "train", "validation", "test", or "" for any other name."""
    plain = name.strip().casefold()
    return DIVISIONS.get(plain) or DIVISIONS.get(_FILLERS.sub("", plain), "")


@dataclass(frozen=True)
class Division:
    """How the folders of a source divide its images; see :func:`divide_folders`.

    Attributes
    ----------
    names : part → names of its folders, in natural order of the folders that hold them.
    default : part of an image that lies in none of these folders; "" if the source does not say.
    clear, bare : the folders that are divided; a clear one decides before a bare one.
    several : names of the data sets, if the source holds more than one: folders with parts and with classes in these.
    """

    names: dict[str, tuple[str, ...]]
    default: str
    clear: frozenset[Folders]
    bare: frozenset[Folders]
    several: tuple[str, ...] = ()

    def place(self, folders: Sequence[str]) -> tuple[str, Folders]:
        """The part of an image in ``folders``, and these folders without the ones that name the part."""
        depth = _root((*folders,), self.clear, self.bare)
        part = "" if depth is None else part_called(folders[depth])
        if not part:
            return self.default, tuple(folders)
        end = depth + 1
        while end < len(folders) and part_called(folders[end]) == part:  # unpacked archives: train/train/…
            end += 1
        return part, (*folders[:depth], *folders[end:])

    def __str__(self) -> str:
        said = [f"'{name}' ({_USES[part]})" for part in _USES for name in self.names.get(part, ())]
        return f"the folders {', '.join(said)}"


def divide_folders(
    images: Iterable[Sequence[str]], empty: Iterable[Sequence[str]] = (), *, alone: bool = True
) -> Division | None:
    """Find the folders that divide a source, at any depth: ``train/cat/``, ``cat/train/``, ``data/train/images/cat/``.

    A folder is clearly divided if two of its sub-folders name different parts, or if one names a part and the folders
    inside it are called as those beside it: ``test/cat/`` beside ``cat/``, which is then for training. It is barely
    divided if all its sub-folders name one part. A class called "train" among other classes divides nothing.

    Parameters
    ----------
    images : the folders above every image, outermost first.
    empty : folders without an image.
    alone : whether a source that is all for testing, or all for validation, counts as divided. False for lists of
        paths, which a person put together.

    Returns
    -------
    None if nothing is divided. Time linear in the number of images.
    """
    above = dict.fromkeys(tuple(folders) for folders in images)
    inside: dict[Folders, set[str]] = defaultdict(set)
    for folders in (*above, *map(tuple, empty)):
        for depth, name in enumerate(folders):
            inside[folders[:depth]].add(name)
    clear = frozenset(root for root in inside if _is_clear(root, inside))
    bare = frozenset(root for root in inside if all(part_called(name) for name in inside[root])) - clear
    used = {folders[:depth] for folders in above if (depth := _root(folders, clear, bare)) is not None}
    parts = {Division({}, "", clear, bare).place(folders)[0] for folders in above}
    default = "" if "train" in parts or "" not in parts else "train"  # only others are named: the rest teaches
    distinct = {part or default for part in parts} - {""}
    whole = alone and parts and not parts & {"", "train"}
    if len(distinct) < 2 and not used & clear and not whole:
        return None
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for root in sorted(used):
        for name in sorted(filter(part_called, inside[root])):
            names[part_called(name)][name] = None
    several = sorted(root[-1] for root in used & clear if root and len(_classes(root, inside)) > 1)
    told = {part: tuple(known) for part, known in names.items()}
    return Division(told, default, clear, bare, tuple(several) if len(several) > 1 else ())


def _root(folders: Folders, clear: frozenset[Folders], bare: frozenset[Folders]) -> int | None:
    """How deep the divided folder lies that decides about an image in ``folders``."""
    depths = range(len(folders))
    return next((d for roots in (clear, bare) for d in depths if folders[:d] in roots), None)


def _is_clear(root: Folders, inside: dict[Folders, set[str]]) -> bool:
    parts = {name for name in inside[root] if part_called(name)}
    if len({part_called(name) for name in parts}) > 1:
        return True
    classes = _classes(root, inside)
    return bool(classes) and classes <= inside[root] - parts


def _classes(root: Folders, inside: dict[Folders, set[str]]) -> set[str]:
    """Names of the folders inside the parts of ``root``."""
    return set().union(*(inside.get((*root, name), set()) for name in inside[root] if part_called(name)))
