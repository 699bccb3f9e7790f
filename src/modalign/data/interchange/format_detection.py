"""Detection of the format of an object, a file or a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from modalign.core.errors import InputError
from modalign.core.files import read_json
from modalign.core.part_files import is_features_source
from modalign.data.interchange.coco import is_coco, list_coco, roboflow_documents
from modalign.data.interchange.data_frames import is_frame, list_frame
from modalign.data.interchange.feature_arrays import is_arrays_folder
from modalign.data.interchange.fiftyone import is_fiftyone, list_fiftyone
from modalign.data.interchange.hub_datasets import is_dataset, is_saved_dataset, list_dataset, read_saved_dataset
from modalign.data.interchange.image_folders import is_image_folder, list_image_folder, refuse_boxes
from modalign.data.interchange.label_studio import is_label_studio, list_label_studio
from modalign.data.interchange.parquet_tables import is_parquet, list_parquet
from modalign.data.interchange.roboflow_classes import class_tables, list_class_tables
from modalign.data.inventory import Listing


def list_object(source: Any) -> Listing | None:
    """The images of an object of another library; None if it is none of those known."""
    if is_dataset(source):
        return list_dataset(source)
    if is_image_folder(source):
        return list_image_folder(source)
    if is_frame(source) and not isinstance(source, Mapping):
        return list_frame(source)
    return None


def is_document(path: PurePath) -> bool:
    """Whether a file is read by :func:`list_document`, by its ending."""
    return path.suffix.lower() == ".json" or is_parquet(path)


def list_document(path: Path) -> Listing:
    """The images that a JSON or Parquet file names or holds."""
    if is_parquet(path):
        return list_parquet(str(path.absolute()))
    content = read_json(path, "a JSON file of images")
    if is_coco(content):
        return list_coco([(str(path), content, "")])
    if is_label_studio(content):
        return list_label_studio(content, str(path))
    raise InputError(
        f"Expected COCO (images, annotations, categories) or tasks of Label Studio in '{path}', got other JSON."
    )


def refuse_vectors(source: object) -> None:
    """Raise if a source without images is a path of their vectors, which other functions and commands take."""
    if not isinstance(source, (str, os.PathLike)):
        return
    path = Path(source)
    takers = "predict, compare, bench, sweep, audit and search"
    if is_features_source(path):
        raise InputError(f"Expected images, '{path}' holds vectors of images or answers; vectors go to {takers}.")
    if is_arrays_folder(path):
        raise InputError(
            f"Expected images, '{path}' holds arrays of vectors; read_feature_arrays('{path}').save('features.npz') "
            f"makes a file of them for {takers}."
        )


def list_export(folder: str) -> Listing | None:
    """The images of a folder that another program wrote; None for any other folder."""
    if is_fiftyone(folder):
        return list_fiftyone(folder)
    if documents := roboflow_documents(folder):
        parts = ("" if path.parent == Path(folder) else path.parent.name for path in documents)
        return list_coco([(str(p), read_json(p, "COCO"), part) for p, part in zip(documents, parts, strict=True)])
    if tables := class_tables(folder):
        return list_class_tables(tables, folder)
    if is_saved_dataset(folder):
        return list_dataset(read_saved_dataset(folder), f"'{folder}'")
    refuse_boxes(folder)
    return None
