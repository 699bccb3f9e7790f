"""Images from lists of paths, bytes and PIL images, and from pixel arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED, Features
from modalign.core.files import local_path, path_error, require_path
from modalign.data.blobs import BytesBlob, FileBlob, ImageBlob, find_image
from modalign.data.folders import divide_by_folders
from modalign.data.inventory import Listing, printable
from modalign.data.names import did_you_mean, quoted, siblings
from modalign.data.remote import RemoteBlob, remote_address


def list_memory(source: object, labels: object, *, addresses: bool = False) -> Listing:
    """The images of a list or an array; ``labels`` has one entry per image, or is None.

    Addresses are read only with ``addresses``.
    """
    _refuse_vectors(source)
    if isinstance(source, np.ndarray) and source.dtype.kind in "OUT" and source.ndim == 1:
        source = source.tolist()  # paths or pictures, as a column of a table holds them
    if isinstance(source, np.ndarray):
        entries: list[object] = list(_check_batch(source))
    elif isinstance(source, (Image.Image, bytes)):
        entries = [source]
    elif isinstance(source, Iterable):
        entries = list(source)
    else:
        raise InputError(
            "Expected images as a folder, table, archive, list of paths or pictures, or a uint8 array "
            f"(n, H, W, 3), got {type(source).__name__}."
        )
    entries = [_at_home(entry) for entry in entries]
    keys = label_keys(labels, len(entries))
    listing = Listing()
    listing.given = name_entries(entries)
    missing: list[str] = []
    for i, (name, entry) in enumerate(zip(listing.given, entries, strict=True)):
        if addresses and isinstance(entry, (str, os.PathLike)) and (address := remote_address(entry)):
            listing.add(name, RemoteBlob(address), keys[i])
        elif isinstance(entry, (str, os.PathLike)):
            path, reason = find_image(os.fspath(entry), os.path.abspath(entry))
            if reason is None:
                listing.add(name, FileBlob(path), keys[i])
            else:
                missing.append(printable(os.fspath(entry)))
                listing.refuse(name, reason)
        elif isinstance(entry, bytes):
            listing.add(name, BytesBlob(entry), keys[i])
        elif isinstance(entry, Image.Image):
            listing.add(name, ImageBlob(entry), keys[i])
        elif isinstance(entry, np.ndarray):
            listing.add(name, ImageBlob(_check_picture(entry, i)), keys[i])
        else:
            raise InputError(
                f"Expected paths, Pillow images, arrays or bytes in the list, got {type(entry).__name__} at {i}."
            )
    if missing and not listing.ids:
        require_path(missing[0], "images")
        first = Path(missing[0])
        if first.is_dir():
            raise InputError(
                f"Expected images, got a list of folders: {quoted(missing, 3)}; give one folder, not a list."
            )
        raise InputError(
            f"Expected images, none of {quoted(missing, 3)} is a file." + did_you_mean(first.name, siblings(first))
        )
    listing.classes = list(dict.fromkeys(key for key in keys if key is not None))
    listing.written = True
    listing.numbered = are_indices(labels)
    divide_by_folders(listing)
    return listing


def _at_home(entry: object) -> object:
    """A path with ``~`` as the home folder, another entry as it is."""
    if isinstance(entry, (str, os.PathLike)) and os.fsdecode(entry).startswith("~"):
        return local_path(entry)
    return entry


def _refuse_vectors(source: object) -> None:
    """Raise for image vectors in place of images (alone, with labels, or in a mapping), with advice."""
    parts = list(source) if isinstance(source, (tuple, list)) else [source]
    shapes = [getattr(part, "shape", None) for part in parts]
    floats = ["float" in str(getattr(part, "dtype", "")) for part in parts]
    vectors = any(shape is not None and len(shape) == 2 and real for shape, real in zip(shapes, floats, strict=True))
    if vectors or isinstance(source, (Mapping, Features)):
        kind = "image vectors" if vectors or isinstance(source, Features) else type(source).__name__
        raise InputError(
            f"Expected images, got {kind}. For vectors and labels use Features in Python, as in "
            "compare(Features(X, labels=y)), or a method, as in CMM().fit(X, y)."
        )


def name_entries(entries: Sequence[object]) -> list[str]:
    """Names of the entries of a list, no two alike; see :attr:`Items.ids`."""
    given = {i: os.fsdecode(e) for i, e in enumerate(entries) if isinstance(e, (str, os.PathLike))}
    paths = {i: os.path.abspath(path) for i, path in given.items() if not path_error(path)}
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths.values()])
    except ValueError:  # no path, or on several drives
        root = ""
    names: dict[str, None] = {}
    for i in range(len(entries)):
        below = os.path.relpath(paths[i], root) if i in paths and root else paths.get(i, given.get(i, str(i)))
        name = once = printable(below.replace(os.sep, "/"))
        count = 1
        while name in names:
            count += 1
            name = f"{once}#{count}"
        names[name] = None
    return list(names)


def label_keys(labels: object, n: int) -> list[str | None]:
    """Labels as class keys: a name, the decimal of an index, or None."""
    if labels is None:
        return [None] * n
    listed = labels.tolist() if hasattr(labels, "tolist") else labels
    if not isinstance(listed, Iterable):
        raise InputError(f"Expected one label per image ({n}), got {labels!r:.80}.")
    values = list(listed)
    if len(values) != n:
        raise InputError(f"Expected one label per image ({n}), got {len(values)}.")
    known = [v for v in values if v is not None and v != UNLABELED]
    if not all(isinstance(v, str) for v in known) and not (are_indices(values) and min(known) >= 0):
        raise InputError("Expected labels to be all class names or all indices ≥ 0, with −1 or None where unknown.")
    return [None if v is None or v == UNLABELED else str(v) for v in values]


def are_indices(labels: object) -> bool:
    """Whether labels are integers, which count classes, rather than names."""
    values = labels.tolist() if hasattr(labels, "tolist") else labels
    return isinstance(values, list | tuple) and all(v is None or isinstance(v, int) for v in values)


def _check_batch(batch: np.ndarray) -> np.ndarray:
    if batch.dtype != np.uint8:
        raise InputError(f"Expected pictures as uint8 0…255, got {batch.dtype}; scale and convert them first.")
    if batch.ndim not in (3, 4) or 0 in batch.shape[1:] or (batch.ndim == 4 and batch.shape[3] not in (1, 3, 4)):
        raise InputError(f"Expected pictures of shape (n, H, W) or (n, H, W, 3), got {batch.shape}.")
    if batch.ndim == 3 and batch.shape[2] == 3:
        raise InputError(f"Expected a batch (n, H, W, 3), got one picture {batch.shape}; pass picture[None].")
    return batch[..., 0] if batch.ndim == 4 and batch.shape[3] == 1 else batch


def _check_picture(picture: np.ndarray, i: int) -> np.ndarray:
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or 0 in picture.shape:
        raise InputError(
            f"Expected pictures as uint8 of shape (H, W) or (H, W, 3), got {picture.dtype} {picture.shape} at {i}."
        )
    return _check_batch(picture[None])[0] if picture.ndim == 3 else picture
