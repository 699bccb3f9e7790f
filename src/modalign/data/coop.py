"""The split files of the CoOp benchmark, and the data sets that come with text files of their own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from modalign.data.blobs import FileBlob
from modalign.data.items import load_items
from modalign.data.itemset import Items
from modalign.data.names import read_classes, some
from modalign.data.split import Split, official_split
from modalign.errors import InputError
from modalign.files import read_json

_LISTS = {"train": "train", "val": "validation", "test": "test"}


def read_coop_split(file: str | Path, root: str | Path | None = None) -> tuple[Items, Split]:
    """The images and official lists of a CoOp split file (``split_zhou_<Dataset>.json``).

    The file holds lists ``train``, ``val`` and ``test`` of [path, label, class name]. Items come in the order of the
    file, so that :func:`~modalign.data.splits.few_shot` with ``official=`` draws what CoOp draws; images that are
    missing on disk keep their place and are quarantined when they are embedded.

    Parameters
    ----------
    file : the split file.
    root : the folder that its paths are relative to. Default: the split file's own folder, without looking whether
        the images are there.
    """
    content = read_json(file, "a CoOp split file")
    if not isinstance(content, dict) or not _LISTS.keys() <= content.keys():
        raise InputError(f"Expected lists 'train', 'val' and 'test' in '{file}', it has none; is it a CoOp split file?")
    if not all(isinstance(content[key], list) for key in _LISTS):
        raise InputError(f"Expected 'train', 'val' and 'test' in '{file}' to be lists.")
    paths: list[str] = []
    labels: list[int] = []
    names: dict[int, str] = {}
    parts: dict[str, np.ndarray] = {}
    for key, part in _LISTS.items():
        start = len(paths)
        for number, entry in enumerate(content[key]):
            match entry:
                case [str(path), int(label), str(name)] if type(label) is int and label >= 0:
                    paths.append(path)
                    labels.append(label)
                case _:
                    where = f"'{file}', '{key}' {number}"
                    raise InputError(f"Expected [path, label, class name] in {where}, got {entry!r}.")
            if names.setdefault(label, name) != name:
                both = f"'{names[label]}' and '{name}'"
                raise InputError(f"Expected one name a label in '{file}', label {label} is {both}.")
        parts[part] = np.arange(start, len(paths))
    if sorted(names) != list(range(len(names))):
        raise InputError(f"Expected labels 0…{len(names) - 1} in '{file}', got {min(names)}…{max(names)}.")
    base = os.path.abspath(Path(file).parent if root is None else root)
    if root is not None:
        _check_images(paths, base, file)
    items = _assemble(Path(base), paths, labels, [names[i] for i in range(len(names))])
    return items, Split(**parts, description=f"the lists of {Path(file).name}")


def _check_images(paths: list[str], base: str, file: str | Path) -> None:
    """Say early that the root is wrong; looks at every path only if the first is missing."""
    if paths and not os.path.isfile(os.path.join(base, paths[0])):
        missing = [path for path in paths if not os.path.isfile(os.path.join(base, path))]
        if len(missing) == len(paths):
            raise InputError(
                f"Expected the images of '{file}' below '{base}', none of its {len(paths)} is there, "
                f"such as {some(paths, 2)}."
            )


def read_aircraft(root: str | Path) -> tuple[Items, Split]:
    """FGVC-Aircraft by its own text files: ``variants.txt``, ``images_variant_{train,val,test}.txt``, ``images/``."""
    root = Path(root)
    names = [line.strip() for line in _lines(root / "variants.txt")]
    paths: list[str] = []
    labels: list[int] = []
    parts: dict[str, np.ndarray] = {}
    for key, part in _LISTS.items():
        start = len(paths)
        for line in _lines(root / f"images_variant_{key}.txt"):
            number, _, name = line.strip().partition(" ")
            if name not in names:
                raise InputError(f"Expected variants of '{root / 'variants.txt'}' in the '{key}' list, got '{name}'.")
            paths.append(f"images/{number}.jpg")
            labels.append(names.index(name))
        parts[part] = np.arange(start, len(paths))
    return _assemble(root, paths, labels, names), Split(**parts, description="the variant lists of FGVC-Aircraft")


def read_cub(root: str | Path) -> tuple[Items, Split]:
    """CUB-200-2011 by its own text files; names without their numbers, ``001.Black_footed_Albatross`` → words."""
    root = Path(root)
    tables = {
        name: dict(line.split(maxsplit=1) for line in _lines(root / f"{name}.txt"))
        for name in ("classes", "images", "image_class_labels", "train_test_split")
    }
    keys = list(tables["images"])
    class_ids = list(tables["classes"])
    labels = [class_ids.index(tables["image_class_labels"][key]) for key in keys]
    is_train = np.array([tables["train_test_split"][key] == "1" for key in keys])
    names = [name.partition(".")[2].replace("_", " ") for name in tables["classes"].values()]
    items = _assemble(root, [f"images/{tables['images'][key]}" for key in keys], labels, names)
    split = Split(np.flatnonzero(is_train), test=np.flatnonzero(~is_train), description="the lists of CUB-200-2011")
    return items, split


def read_imagenet(images: str | Path, class_names: str | Path) -> tuple[Items, Split]:
    """ImageNet or a variant of it: folders by WordNet id or class number, names from CoOp's ``classnames.txt``.

    With folders ``train`` and ``val`` the latter is the test list, as everywhere in this literature; there is then no
    validation list, since CoOp's own is the test list again. A variant is all test, restricted to the classes it has.
    """
    known = read_classes(class_names)
    found = load_items(images)
    if all(name.isdecimal() for name in found.class_names):
        order = sorted(found.class_names, key=int)
        names = [list(known.values())[int(name)] for name in order if int(name) < len(known)]
    else:
        order = [key for key in known if key in set(found.class_names)]
        names = [known[key] for key in order]
    if len(order) < len(found.class_names) or len(names) < len(order):
        raise InputError(f"Expected the folders of '{images}' among the {len(known)} classes of '{class_names}'.")
    items = replace(load_items(images, classes=order), class_names=tuple(names))  # two ids may share one name
    split = official_split(items)
    if split is None:
        return items, Split([], test=np.arange(len(items)), description="all images are for testing")
    test = np.concatenate([split.validation, split.test])
    return items, replace(split, validation=[], test=test, description="ImageNet's train and val folders")


def _assemble(root: Path, paths: list[str], labels: list[int], names: list[str]) -> Items:
    base = os.path.abspath(root)
    return Items(
        ids=tuple(paths),
        blobs=tuple(FileBlob(os.path.join(base, path)) for path in paths),
        labels=np.array(labels, dtype=np.int64),
        class_names=tuple(names),
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"Expected the list '{path}', it is not there.") from error
