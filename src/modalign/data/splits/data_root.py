"""Check of a data root: which benchmark data sets are complete or missing, and which sizes are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modalign.core.errors import InputError
from modalign.data.itemset import Items
from modalign.data.splits.benchmark_sets import open_dataset
from modalign.data.splits.benchmarks import DATASETS, Dataset
from modalign.data.splits.split import Split


@dataclass(frozen=True)
class DataSetFound:
    """One data set of a data root.

    Attributes
    ----------
    name : str
        As in :data:`~modalign.data.splits.benchmarks.DATASETS`.
    state : {"ready", "incomplete", "missing"}
        ``"incomplete"``: a file is missing or a count differs from the published one.
    found : str
        What was found, what was expected, and where to download it.
    """

    name: str
    state: Literal["ready", "incomplete", "missing"]
    found: str


def inspect_data_root(root: str | Path) -> list[DataSetFound]:
    """Open every benchmark data set below a folder and compare its sizes with the published ones.

    No image is decoded; every listed file takes one ``stat`` call.

    Parameters
    ----------
    root : str or Path
        Folder that contains ``caltech-101/``, ``oxford_pets/`` and so on.

    Raises
    ------
    InputError
        The folder does not exist.
    """
    require_data_root(root)
    return [_inspect(row, Path(root)) for row in DATASETS]


def require_data_root(root: str | Path) -> None:
    """Raise unless ``root`` is a folder."""
    if not Path(root).is_dir():
        raise InputError(f"Expected a data root, a folder with a folder per data set, '{root}' is none.")


def _inspect(row: Dataset, root: Path) -> DataSetFound:
    if not (root / row.folder).is_dir():
        inside = " and ".join(f"'{name}'" for name in (row.images, row.lists) if name)
        expected = f"no folder '{row.folder}'{inside and f' with {inside}'}"
        return DataSetFound(row.name, "missing", f"{expected}; get the data set from: {row.source}")
    try:
        items, split = open_dataset(row.name, root)
    except InputError as error:
        return DataSetFound(row.name, "incomplete", str(error))
    wrong = [*_wrong_counts(row, items, split), *_absent(items)]
    sizes = f"{len(split.train):,} / {len(split.validation):,} / {len(split.test):,} images"
    found = f"{len(items.class_names)} classes, {sizes} to train, validate and test"
    return DataSetFound(row.name, "incomplete" if wrong else "ready", "; ".join([found, *wrong]))


def _wrong_counts(row: Dataset, items: Items, split: Split) -> list[str]:
    """Sentences on every count that is not the published one."""
    counts = [("classes", len(items.class_names), row.n_classes), ("test images", len(split.test), row.n_test)]
    if row.coop is not None:
        counts += [
            ("training images", len(split.train), row.coop[0]),
            ("validation images", len(split.validation), row.coop[1]),
        ]
    return [f"expected {expected:,} {what}, not {count:,}" for what, count, expected in counts if count != expected]


def _absent(items: Items) -> list[str]:
    """A sentence on listed files that are not on disk."""
    absent = [name for i, name in enumerate(items.ids) if not items.size(i)]
    if not absent:
        return []
    return [f"{len(absent):,} of {len(items):,} listed files are missing or empty, '{absent[0]}' the first"]
