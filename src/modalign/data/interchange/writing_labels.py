"""Images with their labels, or with the answers of a model, in the form of another program."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modalign.core.errors import InputError, argument, current_options
from modalign.core.files import check_writable, new_folder, replacing, write
from modalign.core.name_matching import join_alternatives
from modalign.core.renaming import stacklevel_outside
from modalign.data.interchange.coco import coco_document
from modalign.data.interchange.conversion_losses import FOLDERS_OF_CLASSES, conversion_losses
from modalign.data.interchange.data_frames import frame_of, polars_frame_of
from modalign.data.interchange.fiftyone import write_fiftyone
from modalign.data.interchange.hub_datasets import to_dataset
from modalign.data.interchange.image_folders import write_class_folders, write_yolo
from modalign.data.interchange.label_studio import label_studio_document
from modalign.data.interchange.labeled_rows import AnsweredImages, AnsweredSets, LabeledRow, rows_of, rows_of_sets
from modalign.data.interchange.parquet_tables import write_parquet
from modalign.data.interchange.roboflow_classes import write_class_tables
from modalign.data.interchange.tar_samples import write_tar
from modalign.data.items import load_items, load_with_sets
from modalign.data.itemset import Items
from modalign.data.label_sets import LabeledSets, columns_of_classes, load_label_sets, note_on_sets

_FOLDERS: dict[str, Callable[[Sequence[LabeledRow], Sequence[str], Path], None]] = {
    "fiftyone": write_fiftyone,
    "imagefolder": lambda rows, names, folder: write_class_folders(rows, folder),
    "yolo": lambda rows, names, folder: write_yolo(rows, folder),
    "roboflow": write_class_tables,
}
_DOCUMENTS: dict[str, Callable[[Sequence[LabeledRow], Sequence[str]], Any]] = {
    "coco": coco_document,
    "label_studio": lambda rows, names: label_studio_document(rows),
}
_FILES = {"parquet": write_parquet, "webdataset": write_tar}
_ENDINGS = {"parquet": ".parquet", "webdataset": ".tar"}
_OBJECTS: dict[str, Callable[[Sequence[LabeledRow], Sequence[str]], Any]] = {
    "pandas": lambda rows, names: frame_of(rows),
    "polars": lambda rows, names: polars_frame_of(rows),
    "datasets": to_dataset,
}
WRITTEN = (*_FOLDERS, *_DOCUMENTS, *_FILES)
"""Formats of files and folders; the others are objects."""
FORMATS = (*WRITTEN, *_OBJECTS)


def convert_labels(
    images: Any, format: str, out: str | Path | None = None, *, predictions: AnsweredImages | AnsweredSets | None = None
) -> Any:
    """Images with labels, or with predictions, in the form of another program.

    Parameters
    ----------
    images : object
        As :func:`~modalign.load_items` takes them; or a :class:`~modalign.data.label_sets.LabeledSets`, whose images
        may show several classes.
    format : str
        ``"coco"`` and ``"label_studio"`` write a JSON file that names the images; ``"parquet"`` and ``"webdataset"`` a
        file that holds them; ``"fiftyone"``, ``"roboflow"``, ``"imagefolder"`` and ``"yolo"`` a new folder of copies,
        the last two in folders of one class. ``"pandas"`` and ``"polars"`` return a DataFrame, ``"datasets"`` a Dataset
        or, of images with parts, a DatasetDict.
    out : str, Path or None, default=None
        The file or folder to write; None for objects.
    predictions : Predictions, MultiLabelPredictions or None, default=None
        Answers of a classifier for the images, in place of labels.

    Returns
    -------
    Path or object
        The path, written atomically; or the object.

    Raises
    ------
    InputError
        The format is unknown, ``out`` cannot be written or has an ending that is not read back, no image has a label
        for folders of classes, the predictions are of other images, or the format has one
        class per image and an image has a set.

    Warns
    -----
    UserWarning
        The format cannot hold something, such as parts or images without a class; or a JSON file is not in the folder
        of its images.

    Examples
    --------
    >>> from modalign.data.digits import load_digits
    >>> from modalign.data.interchange.writing_labels import convert_labels
    >>> convert_labels(load_digits().select(range(20)), "coco", "digits.json").name
    'digits.json'
    """
    check_conversion(format, out, FORMATS)
    names, rows = _named_rows(images, predictions)
    if format in FOLDERS_OF_CLASSES and rows and not any(row.names for row in rows):
        answers = argument("predictions") if current_options() is None else argument("model")
        raise InputError(
            f"Expected images with labels for {format}, which has a folder per class, got {len(rows)} without; "
            f"give {answers} for the answers of a model."
        )
    for note in conversion_losses(rows, format, None if out is None else Path(out)):
        warnings.warn(note, stacklevel=stacklevel_outside())
    if format in _OBJECTS:
        return _OBJECTS[format](rows, names)
    path = Path(str(out))
    if format in _FOLDERS:
        with new_folder(path) as folder:
            _FOLDERS[format](rows, names, folder)
        return path
    if format in _FILES:
        with replacing(path) as file:
            _FILES[format](rows, file)
        return path
    return write(path, json.dumps(_DOCUMENTS[format](rows, names), indent=1, ensure_ascii=False))


def check_conversion(format: str, out: str | Path | None, formats: Sequence[str] = WRITTEN) -> None:
    """Raise unless the format is one of ``formats`` and can be written to ``out``; no image is read."""
    if format not in formats:
        raise InputError(f"Expected the format {join_alternatives(formats)}, got '{format}'.")
    if (out is None) != (format in _OBJECTS):
        wanted = "no place to write to, since an object is returned" if format in _OBJECTS else "a place to write to"
        raise InputError(f"Expected {wanted} for '{format}'.")
    if out is None:
        return
    ending = None if format in _FOLDERS else _ENDINGS.get(format, ".json")
    if ending is not None and Path(out).suffix.lower() != ending:
        raise InputError(f"Expected a file name that ends in {ending} for {format}, got '{out}'.")
    check_writable(out, folder=format in _FOLDERS)


def load_to_convert(images: Any) -> Items | LabeledSets:
    """Images with their labels, or with their sets of classes where an image may show several."""
    if isinstance(images, LabeledSets):
        return images
    items, several = load_with_sets(images)
    sets = several or note_on_sets(items) or (not items.class_names and columns_of_classes(images))
    return load_label_sets(images) if sets else items


def _named_rows(
    images: Any, predictions: AnsweredImages | AnsweredSets | None
) -> tuple[list[str], Sequence[LabeledRow]]:
    """The class names and the rows of the images with their labels, or with predictions."""
    if predictions is None:
        labeled = load_to_convert(images)
        rows = rows_of_sets(labeled) if isinstance(labeled, LabeledSets) else rows_of(labeled)
        return list(labeled.class_names), rows
    rows = rows_of(images.items if isinstance(images, LabeledSets) else load_items(images, labels=-1), predictions)
    known = getattr(predictions, "class_names", ())
    return list(dict.fromkeys([*known, *(name for row in rows for name in row.names)])), rows  # "none of these" too
