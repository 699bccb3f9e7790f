"""Images as a user has them — a folder, a table, a list, an archive, pictures in memory — behind one interface.

Nothing is decoded here but by :meth:`Items.open`; listing a hundred thousand files takes about a second. What cannot
be used is quarantined with a reason and never fatal; what a person should know is in ``notes``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from modalign.data.archives import is_archive, list_archive
from modalign.data.blobs import BytesBlob, FileBlob, ImageBlob, why_no_image
from modalign.data.itemset import PART, Items
from modalign.data.listing import Listing, has_image_suffix, list_folder, printable
from modalign.data.names import did_you_mean, name_classes, siblings, some
from modalign.data.sniff import IMAGE_SUFFIXES
from modalign.data.tables import is_table, list_table
from modalign.errors import InputError, argument
from modalign.features import UNLABELLED
from modalign.files import is_regular, require_path, why_no_path


def load_items(source: object, *, classes: object = None, labels: object = None) -> Items:
    """Images from whatever a user has.

    =====================================  =====================================================================
    a folder of folders                    one class a folder; images may lie deeper; train/val/test are seen through
    a folder of images                     unlabelled
    ``.csv``, ``.tsv``                     a column with paths (relative to the file) and, if any, one with labels
    ``.txt``, ``.lst``                     one path a line, optionally followed by a label
    ``.zip``, ``.tar``, ``.tar.gz`` …      as a folder; nothing is unpacked, nothing outside can be reached
    one image file, or its bytes           one unlabelled image
    a list                                 paths, Pillow images, arrays (H, W[, 3]) or bytes, also mixed
    an array (n, H, W) or (n, H, W, 3)     n pictures, uint8
    Items                                  itself
    =====================================  =====================================================================

    Parameters
    ----------
    source : one of the above.
    classes : class names that fix the order: a list, a mapping folder → name (two folders with one name are merged),
        or a file of names (one a line, or JSON). Default: the names that the source has, in natural order.
    labels : for lists and arrays one label an image, as indices or class names, −1 or None where unknown. For any
        source −1 alone means: ignore the labels it has.

    Raises
    ------
    InputError
        If the source does not exist, holds no image, or labels and class names do not fit.
    """
    if isinstance(source, Items):
        return _relabel(source, classes, labels)
    ignore = isinstance(labels, int) and labels == UNLABELLED
    if isinstance(source, (str, os.PathLike)):
        if labels is not None and not ignore:
            raise InputError(
                f"Expected {argument('labels')} only with lists and arrays; for files give a CSV with a label column."
            )
        listing = _list_path(source)
    else:
        listing = _list_memory(source, None if ignore else labels)
    if ignore:
        listing.keys, listing.classes = [None] * len(listing.ids), []
    if not listing.ids and not listing.quarantined:
        detail = f" ({'; '.join(listing.notes)})" if listing.notes else ""
        shown = f" in '{source}'" if isinstance(source, (str, os.PathLike)) else ""
        raise InputError(f"Expected images{shown}, found none{detail}.")
    naming = name_classes(listing.classes, classes)
    return Items(
        ids=tuple(listing.ids),
        blobs=tuple(listing.blobs),
        labels=np.array([UNLABELLED if k is None else naming.index[k] for k in listing.keys], dtype=np.int64),
        class_names=naming.names,
        quarantined=tuple(listing.quarantined),
        notes=(*listing.notes, *naming.notes),
        parts=np.array(listing.parts, PART),
        division=listing.division,
        trouble=listing.trouble,
        given=tuple(listing.given),
    )


def _list_path(source: str | os.PathLike[str]) -> Listing:
    require_path(source, "images")
    path = Path(source)
    if not _exists(path):
        raise InputError(
            f"Expected a folder, table, archive or image, '{path}' does not exist."
            + did_you_mean(path.name, siblings(path))
        )
    root = os.path.abspath(path)
    if path.is_dir():
        return list_folder(root)
    if not is_regular(path.stat()):
        raise InputError(f"Expected a folder, table, archive or image, '{path}' is not a regular file.")
    if is_archive(path):
        return list_archive(root)
    if is_table(path):
        return list_table(path)
    if has_image_suffix(path.name):
        listing = Listing()
        listing.add(_names([path])[0], FileBlob(root))
        return listing
    raise InputError(
        f"Expected a folder, a table (.csv, .tsv, .txt), an archive (.zip, .tar, .tar.gz) or an image, got '{path}'."
    )


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Expected a folder, table, archive or image, '{path}' cannot be read: {reason}.") from None
    return True


def _list_memory(source: object, labels: object) -> Listing:
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
    keys = _label_keys(labels, len(entries))
    listing = Listing()
    listing.given = _names(entries)
    missing: list[str] = []
    for i, (name, entry) in enumerate(zip(listing.given, entries, strict=True)):
        if isinstance(entry, (str, os.PathLike)):
            path = os.path.abspath(entry)
            reason = why_no_image(os.fspath(entry), path)
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
        raise InputError(
            f"Expected images, none of {some(missing, 3)} is a file." + did_you_mean(first.name, siblings(first))
        )
    listing.classes = list(dict.fromkeys(key for key in keys if key is not None))
    return listing


def _names(entries: Sequence[object]) -> list[str]:
    """Names of the entries of a list, no two alike; see :attr:`Items.ids`."""
    given = {i: os.fsdecode(e) for i, e in enumerate(entries) if isinstance(e, (str, os.PathLike))}
    paths = {i: os.path.abspath(path) for i, path in given.items() if not why_no_path(path)}
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


def _label_keys(labels: object, n: int) -> list[str | None]:
    """Labels as class keys: a name, the decimal of an index, or None."""
    if labels is None:
        return [None] * n
    values = list(labels.tolist() if hasattr(labels, "tolist") else labels)  # type: ignore[call-overload]
    if len(values) != n:
        raise InputError(f"Expected one label an image ({n}), got {len(values)}.")
    known = [v for v in values if v is not None and v != UNLABELLED]
    if not all(isinstance(v, str) for v in known) and not all(isinstance(v, int) and v >= 0 for v in known):
        raise InputError("Expected labels to be all class names or all indices ≥ 0, with −1 or None where unknown.")
    return [None if v is None or v == UNLABELLED else str(v) for v in values]


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


def _relabel(items: Items, classes: object, labels: object) -> Items:
    if labels is not None and isinstance(labels, int) and labels == UNLABELLED:
        items = items.unlabelled()
    elif labels is not None:
        keys = _label_keys(labels, len(items))
        naming = name_classes(list(dict.fromkeys(k for k in keys if k is not None)), classes)
        new = [UNLABELLED if k is None else naming.index[k] for k in keys]
        return replace(items, labels=np.array(new, dtype=np.int64), class_names=naming.names)
    if classes is None:
        return items
    known = items.class_names if (items.labels != UNLABELLED).any() else ()
    naming = name_classes(known, classes)
    table = np.array([naming.index[name] for name in known] + [UNLABELLED], dtype=np.int64)
    return replace(items, labels=table[items.labels], class_names=naming.names, notes=(*items.notes, *naming.notes))


__all__ = ["IMAGE_SUFFIXES", "Items", "load_items"]
