"""Split files of the CoOp benchmark, and data sets with text files of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.errors import InputError
from modalign.core.files import read_json, read_text
from modalign.data.blobs import FileBlob
from modalign.data.itemset import Items
from modalign.data.names import quoted
from modalign.data.splits.division import part_called
from modalign.data.splits.official import OfficialLists
from modalign.data.splits.split import PARTS, Split

_KEYS = {"train": "train", "val": "validation", "test": "test"}
AIRCRAFT = ("variants.txt", *(f"images_variant_{key}.txt" for key in _KEYS))
CUB = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")
"""Files by which the two data sets are recognized."""


def read_coop_split(file: str | Path, root: str | Path | None = None) -> tuple[Items, Split]:
    """Read the images and the official split of a CoOp split file (``split_zhou_<Dataset>.json``).

    The file contains lists ``train``, ``val`` and ``test`` of [path, label, class name]. Items are in the order of the
    file, so :func:`~modalign.data.splits.drawing.few_shot` with ``official=`` draws the same images as CoOp. Images
    that are missing on disk keep their position and are quarantined when they are embedded.

    Parameters
    ----------
    file : str or Path
        The split file.
    root : str, Path or None, default=None
        Folder that the paths are relative to. Default: the folder of the split file, without a check that the images
        exist.
    """
    lists = coop_lists(read_json(file, "a CoOp split file"), f"'{file}'")
    base = os.path.abspath(Path(file).parent if root is None else root)
    if root is not None:
        _check_images(lists.paths, base, file)
    return _assemble(Path(base), lists, f"the lists of {Path(file).name}")


def coop_lists(content: Any, origin: str) -> OfficialLists:
    """The lists of a CoOp split file, from its JSON."""
    keys = {part: key for key in content if (part := part_called(key))} if isinstance(content, dict) else {}
    if not {"train", "test"} <= keys.keys():
        raise InputError(f"Expected lists 'train', 'val' and 'test' in {origin}, it has none; is it a CoOp split file?")
    if not all(isinstance(content[key], list) for key in keys.values()):
        raise InputError(f"Expected 'train', 'val' and 'test' in {origin} to be lists.")
    rows: list[tuple[str, str, int]] = []
    names: dict[int, str] = {}
    label_of: dict[str, int] = {}
    for part in (part for part in PARTS if part in keys):
        for number, entry in enumerate(content[keys[part]]):
            match entry:
                case [str(path), int(label), str(name)] if type(label) is int and label >= 0:
                    rows.append((path.replace("\\", "/").removeprefix("./"), part, label))
                case _:
                    where = f"{origin}, '{keys[part]}' {number}"
                    raise InputError(f"Expected [path, label, class name] in {where}, got {entry!r}.")
            if names.setdefault(label, name) != name:
                both = f"'{names[label]}' and '{name}'"
                raise InputError(f"Expected one name per label in {origin}, label {label} is {both}.")
            if (before := label_of.setdefault(rows[-1][0], label)) != label:
                both = f"'{names[before]}' and '{name}'"
                raise InputError(f"Expected one class per image in {origin}, '{path}' is listed as {both}.")
    if sorted(names) != list(range(len(names))):
        raise InputError(f"Expected labels 0…{len(names) - 1} in {origin}, got {min(names)}…{max(names)}.")
    return _lists(origin, rows, [names[k] for k in range(len(names))])


def _lists(origin: str, rows: Sequence[tuple[str, str, int]], names: Sequence[str]) -> OfficialLists:
    paths, parts, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return OfficialLists(origin, paths, parts, np.array(labels, dtype=np.int64), tuple(names))


def _check_images(paths: Sequence[str], base: str, file: str | Path) -> None:
    """Raise early if the root is wrong; all paths are checked only if the first is missing."""
    if paths and not os.path.isfile(os.path.join(base, paths[0])):
        missing = [path for path in paths if not os.path.isfile(os.path.join(base, path))]
        if len(missing) == len(paths):
            raise InputError(
                f"Expected the images of '{file}' below '{base}', none of its {len(paths)} is there, "
                f"such as {quoted(paths, 2)}."
            )


def read_aircraft(root: str | Path) -> tuple[Items, Split]:
    """FGVC-Aircraft by its own text files: ``variants.txt``, ``images_variant_{train,val,test}.txt``, ``images/``."""
    return _assemble(Path(root), aircraft_lists(root), "the variant lists of FGVC-Aircraft")


def aircraft_lists(root: str | Path) -> OfficialLists:
    """The variant lists of FGVC-Aircraft, from the folder that holds its text files."""
    root = Path(root)
    names = [line.strip() for line in _lines(root / "variants.txt")]
    number_of = {name: k for k, name in enumerate(names)}
    rows = []
    for key, part in _KEYS.items():
        for line in _lines(root / f"images_variant_{key}.txt"):
            number, _, name = line.strip().partition(" ")
            if name not in number_of:
                raise InputError(f"Expected variants of '{root / 'variants.txt'}' in the '{key}' list, got '{name}'.")
            rows.append((f"images/{number}.jpg", part, number_of[name]))
    return _lists("the variant lists of FGVC-Aircraft", rows, names)


def read_cub(root: str | Path) -> tuple[Items, Split]:
    """CUB-200-2011 by its own text files; names without their numbers, ``001.Black_footed_Albatross`` → words."""
    return _assemble(Path(root), cub_lists(root), "the lists of CUB-200-2011")


def cub_lists(root: str | Path) -> OfficialLists:
    """The lists of CUB-200-2011, from the folder that holds its text files."""
    root = Path(root)
    classes, images, labels, train = (_table(root / name) for name in CUB)
    number_of = {key: k for k, key in enumerate(classes)}
    try:
        rows = [(f"images/{images[i]}", "train" if train[i] == "1" else "test", number_of[labels[i]]) for i in images]
    except KeyError as error:
        raise InputError(
            f"Expected a class and a list for every image of '{root / 'images.txt'}', {error} lacks it."
        ) from None
    names = [name.partition(".")[2].replace("_", " ") for name in classes.values()]
    return _lists("the lists of CUB-200-2011", sorted(rows, key=lambda row: row[1] == "test"), names)


def _assemble(root: Path, lists: OfficialLists, description: str) -> tuple[Items, Split]:
    base = os.path.abspath(root)
    items = Items(
        ids=lists.paths,
        blobs=tuple(FileBlob(os.path.join(base, path)) for path in lists.paths),
        labels=lists.labels,
        class_names=lists.class_names,
    )
    return items, Split.by_part(np.array(lists.parts), description)


def _lines(path: Path) -> list[str]:
    return [line for line in read_text(path, "a list of the data set").splitlines() if line.strip()]


def _table(path: Path) -> dict[str, str]:
    """The lines "key value" of a file."""
    pairs = [line.split(maxsplit=1) for line in _lines(path)]
    if bad := [pair for pair in pairs if len(pair) != 2]:
        raise InputError(f"Expected two columns in '{path}', got {' '.join(bad[0])!r}.")
    return dict(pairs)
