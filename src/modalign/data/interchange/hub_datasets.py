"""``datasets.Dataset`` and ``DatasetDict`` of Hugging Face, with class names and splits; images are read lazily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, UndecodableError, require
from modalign.data.blobs import Blob, Identity
from modalign.data.interchange.data_frames import IMAGE_COLUMNS, label_of_cell, names_in_lists
from modalign.data.interchange.labeled_rows import Label, LabeledRow, blob_of, listed
from modalign.data.inventory import Listing
from modalign.data.names import quoted
from modalign.data.tables import LABEL_COLUMNS

_SAVED = (("dataset_dict.json",), ("dataset_info.json", "state.json"))
"""Files of a folder that ``save_to_disk`` writes."""


class RowBlob:
    """Image of one row, read on access."""

    __slots__ = ("column", "dataset", "row")

    def __init__(self, dataset: Any, column: str, row: int) -> None:
        self.dataset, self.column, self.row = dataset, column, row

    def read(self) -> bytes:
        """The bytes."""
        return self._blob().read()

    def identity(self) -> Identity | None:
        """Of the file, if the row names one."""
        return self._blob().identity()

    def size(self) -> int:
        """Bytes."""
        return self._blob().size()

    def _blob(self) -> Blob:
        blob, reason = blob_of(self.dataset[self.row][self.column])
        if blob is None:
            raise UndecodableError(reason)
        return blob


def is_dataset(source: object) -> bool:
    """Whether an object is a Dataset, or a DatasetDict of such."""
    if isinstance(source, Mapping):
        return bool(source) and all(is_dataset(part) for part in source.values())
    return hasattr(source, "features") and hasattr(source, "column_names") and hasattr(source, "cast_column")


def is_saved_dataset(folder: str) -> bool:
    """Whether ``save_to_disk`` of a Dataset or a DatasetDict wrote a folder."""
    return any(all(Path(folder, name).is_file() for name in names) for names in _SAVED)


def read_saved_dataset(folder: str) -> Any:
    """The dataset of such a folder.

    Raises
    ------
    InputError
        It is damaged.
    """
    datasets = require("datasets", "datasets")
    try:
        return datasets.load_from_disk(folder)
    except Exception as error:  # of Arrow, of JSON, or of the file system
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"Expected a dataset that save_to_disk wrote, '{folder}' cannot be read as one: {reason}; save it again."
        ) from None


def list_dataset(source: Any, what: str = "the dataset") -> Listing:
    """Return the images of a dataset, or of several splits, whose names determine the parts."""
    splits = source if isinstance(source, Mapping) else {"": source}
    names = {part: _class_names(dataset) for part, dataset in splits.items()}
    classes = next(iter(names.values()))
    if any(own != classes for own in names.values()):
        raise InputError("Expected splits with the same class names, got others; cast the labels to one ClassLabel.")
    rows = (row for part, dataset in splits.items() for row in _rows(dataset, part, classes, len(splits) > 1))
    numbered = all(_are_numbers(dataset) for dataset in splits.values())
    known = set() if classes else {name for dataset in splits.values() for name in names_in_lists(_labels(dataset))}
    return listed(rows, what, classes, numbered=numbered, known=known)


def to_dataset(rows: Sequence[LabeledRow], class_names: Sequence[str]) -> Any:
    """A DatasetDict by part, or a Dataset where no image has one, with ``id``, ``image``, ``label`` and ``score``.

    Labels that are sets of classes are lists; an image without labels then has None.
    """
    datasets = require("datasets", "datasets")
    several = any(isinstance(row.label, tuple) for row in rows)
    kind = datasets.ClassLabel(names=list(class_names))
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "image": datasets.Image(decode=False),
            "label": datasets.List(kind) if several else kind,
        }
        | ({"score": datasets.Value("float64")} if any(row.score is not None for row in rows) else {})
    )

    def made(some_rows: Sequence[LabeledRow]) -> Any:
        unknown = None if several else -1
        numbers = [[class_names.index(name) for name in row.names] for row in some_rows]
        labels = [
            unknown if row.label is None else own if several else own[0]
            for row, own in zip(some_rows, numbers, strict=True)
        ]
        images = [{"bytes": row.blob.read(), "path": None} for row in some_rows]
        columns = {"id": [row.name for row in some_rows], "image": images, "label": labels}
        if "score" in features:
            columns["score"] = [row.score for row in some_rows]
        return datasets.Dataset.from_dict(columns, features=features)

    parts = list(dict.fromkeys(row.part for row in rows))
    if parts == [""]:
        return made(rows)
    return datasets.DatasetDict({part or "unused": made([r for r in rows if r.part == part]) for part in parts})


def _columns(dataset: Any) -> tuple[str, str | None]:
    named = {name.casefold(): name for name in dataset.column_names}
    image = next((name for name, kind in dataset.features.items() if type(kind).__name__ == "Image"), None)
    image = image or next((named[name] for name in IMAGE_COLUMNS if name in named), None)
    if image is None:
        raise InputError(f"Expected a column of images in the dataset, got {quoted(dataset.column_names)}.")
    label = next((name for name, kind in dataset.features.items() if _is_class(kind)), None)
    return image, label or next((named[name] for name in LABEL_COLUMNS if name in named), None)


def _class_names(dataset: Any) -> tuple[str, ...]:
    _, label = _columns(dataset)
    if label is None:
        return ()
    kind = dataset.features[label]
    return tuple(getattr(getattr(kind, "feature", kind), "names", None) or ())


def _labels(dataset: Any) -> list[Any]:
    _, label = _columns(dataset)
    return list(dataset[label]) if label else [None] * len(dataset)


def _are_numbers(dataset: Any) -> bool:
    """Whether the column of labels has whole numbers."""
    _, label = _columns(dataset)
    return label is not None and "int" in str(getattr(dataset.features[label], "dtype", ""))


def _is_class(kind: Any) -> bool:
    """Whether a column holds numbers of classes, or lists of such."""
    return type(getattr(kind, "feature", kind)).__name__ == "ClassLabel"


def _rows(dataset: Any, part: str, classes: Sequence[str], several: bool) -> Iterator[tuple[str, RowBlob, Label, str]]:
    image, _ = _columns(dataset)
    kind = dataset.features[image]
    if type(kind).__name__ == "Image":
        dataset = dataset.cast_column(image, type(kind)(decode=False))  # bytes, which are what identifies an image
    ids = list(dataset["id"]) if "id" in dataset.column_names else range(len(dataset))
    for i, (name, value) in enumerate(zip(ids, _labels(dataset), strict=True)):
        text = f"{part}/{name}" if several and "id" not in dataset.column_names else str(name)
        part_name = part if part != "unused" else ""
        yield text, RowBlob(dataset, image, i), label_of_cell(value, classes), part_name
