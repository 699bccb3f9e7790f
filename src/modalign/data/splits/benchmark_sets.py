"""Benchmark data sets, opened from disk with their official lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from modalign.core.errors import InputError
from modalign.data.items import load_items
from modalign.data.itemset import Items
from modalign.data.names import distinct, read_classes
from modalign.data.splits.benchmarks import DATASETS, Dataset, dataset
from modalign.data.splits.coop_files import read_aircraft, read_coop_split, read_cub
from modalign.data.splits.drawing import draw_split
from modalign.data.splits.split import EMPTY, Split, mark, official_split

__all__ = ["DATASETS", "Dataset", "dataset", "open_dataset", "read_imagenet"]


def open_dataset(name: str, root: str | Path) -> tuple[Items, Split]:
    """Open a benchmark data set with its official split, from a data root in CoOp's layout.

    Parameters
    ----------
    name : str
        See :func:`dataset`.
    root : str or Path
        Folder that contains ``caltech-101/``, ``oxford_pets/`` …, or the folder of the data set itself.

    Raises
    ------
    InputError
        A folder or file is missing; the message names it and the source of the data set.
    """
    row = dataset(name)
    root = Path(root)
    base = root / row.folder
    if not base.is_dir() and (root / (row.lists or row.images)).exists() and (row.lists or root.name == row.folder):
        base = root
    wanted = {"folder": base, "folder of images": base / row.images, "file": base / row.lists}
    lists = base / row.lists
    if row.layout == "imagenet" and not lists.is_file():
        lists = wanted["file"] = base.parent / "imagenet" / row.lists
    for what, path in wanted.items():
        if not path.exists():
            origin = "; it comes with CoOp's data instructions" if row.layout in ("coop", "imagenet") else ""
            advice = f"; get the data set from: {row.source}" if what != "file" else origin
            raise InputError(f"Expected the {what} '{path}' of {row.name}, it is not there{advice}.")
    match row.layout:
        case "coop":
            items, split = read_coop_split(lists, base / row.images)
        case "imagenet":
            items, split = read_imagenet(base / row.images, lists)
        case "aircraft":
            items, split = read_aircraft(base)
        case "cub":
            items, split = read_cub(base)
        case "folders":
            items = load_items(base)
            split = official_split(items) or draw_split(items, train=row.train, validation=0.0)
    if len(items.class_names) != row.n_classes:
        note = f"{row.name} usually has {row.n_classes} classes, here are {len(items.class_names)}"
        items = replace(items, notes=(*items.notes, note))
    return mark(items, split), split


def read_imagenet(images: str | Path, class_names: str | Path) -> tuple[Items, Split]:
    """Read ImageNet or a variant: folders by WordNet id or class number, names from CoOp's ``classnames.txt``.

    Two classes may have one name. The later one gets a number, ``"crane (2)"``, in variants as well.

    With folders ``train`` and ``val``, the latter is the test list, as in the published protocols. There is no
    validation list, since CoOp's equals the test list. A variant is used for testing only, restricted to its classes.
    """
    listed = read_classes(class_names)
    known = dict(zip(listed, distinct(list(listed.values())), strict=True))  # a variant has the numbers of all classes
    found = load_items(images)
    if all(name.isdecimal() for name in found.class_names):
        order = sorted(found.class_names, key=int)
        names = [list(known.values())[int(name)] for name in order if int(name) < len(known)]
    else:
        order = [key for key in known if key in set(found.class_names)]
        names = [known[key] for key in order]
    if len(order) < len(found.class_names) or len(names) < len(order):
        raise InputError(f"Expected the folders of '{images}' among the {len(known)} classes of '{class_names}'.")
    items = replace(load_items(images, classes=order), class_names=tuple(names))
    split = official_split(items)
    if split is None:
        return items, Split(EMPTY.copy(), test=np.arange(len(items)), description="all images are for testing")
    test = np.concatenate([split.validation, split.test])
    return items, replace(split, validation=EMPTY.copy(), test=test, description="ImageNet's train and val folders")
