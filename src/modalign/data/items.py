"""One interface for images in folders, tables, lists, archives and memory.

Images are decoded by :meth:`Items.open` only; listing a hundred thousand files takes about a second. Files that cannot
be used are quarantined with a reason instead of raising an error; ``notes`` holds messages for the user.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED
from modalign.core.files import is_regular, plain_path, require_path
from modalign.data.archives.archive import is_archive, list_archive
from modalign.data.blobs import FileBlob
from modalign.data.decoding.sniff import IMAGE_SUFFIXES
from modalign.data.folders import list_folder
from modalign.data.in_memory import are_indices, label_keys, list_memory, name_entries
from modalign.data.interchange.format_detection import (
    is_document,
    list_document,
    list_export,
    list_object,
    refuse_vectors,
)
from modalign.data.interchange.tar_samples import add_sample_labels
from modalign.data.inventory import Listing, has_image_suffix
from modalign.data.itemset import PART, Items
from modalign.data.names import did_you_mean, name_classes, read_classes, siblings
from modalign.data.remote import remote_address
from modalign.data.remote_sources import list_address
from modalign.data.splits.benchmarks import find_dataset
from modalign.data.splits.split import Split, mark
from modalign.data.splits.split_files import divide_by, divide_by_found, read_lists
from modalign.data.tables import FIT_SETS, is_table, list_table


@checked_arguments
def load_items(
    source: object,
    *,
    classes: object = None,
    labels: object = None,
    split: str | os.PathLike[str] | Split | None = None,
    addresses: bool = False,
) -> Items:
    """Load images from a folder, a table, a list, an archive or memory.

    =====================================  =====================================================================
    a folder of folders                    one class per folder; images may be nested; train/val/test set the part
    a folder of images                     unlabeled
    ``.csv``, ``.tsv``                     a column with paths (relative to the file) and, if any, one with labels
    ``.txt``, ``.lst``                     one path per line, optionally followed by a label
    ``.zip``, ``.tar``, ``.tar.gz`` …      as a folder; read without unpacking
    one image file, or its bytes           one unlabeled image
    a list                                 paths, Pillow images, arrays (H, W[, 3]) or bytes, also mixed
    an array (n, H, W) or (n, H, W, 3)     n pictures, uint8
    ``.json``, ``.parquet``                COCO, Label Studio; a table with a column of images
    a folder of another program            FiftyOne, Roboflow, see :mod:`modalign.data.interchange`
    an object of another library           ``datasets``, pandas, polars, ``ImageFolder``
    ``ROOT:NAME``                          a benchmark data set of a data root, with its official lists
    ``s3://``, ``gs://``, ``https://`` …   one of the above behind an address; needs ``modalign[remote]``
    Items                                  itself
    =====================================  =====================================================================

    Parameters
    ----------
    source : object
        See the table.
    classes : object, default=None
        Class names in label order: a list, a mapping folder → name (folders with equal names are merged), or a file of
        names (one per line, or JSON). Default: the names in the source, in natural order.
    labels : object, default=None
        For lists and arrays, one label per image, as indices or class names, −1 or None where unknown. For any source,
        the single value −1 ignores its labels.
    split : str, os.PathLike, Split or None, default=None
        Training, validation and test images: a split file of CoOp, one that
        :meth:`~modalign.data.splits.split.Split.save` wrote, or a split of these items. Default: the split of the
        source, by folders called train, val and test, by a column ``split`` of a table, or by a split file next to the
        images, whose order and class names are then those of the items.
    addresses : bool, default=False
        Whether a list or a table on this machine may name images by address; otherwise these are left out. Rows of a
        table that is itself behind an address are read relative to it.

    Raises
    ------
    InputError
        If the source does not exist or contains no image, or labels, class names and split do not match it.

    Examples
    --------
    >>> import modalign as ma
    >>> from PIL import Image
    >>> pictures = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "navy")]
    >>> items = ma.load_items(pictures, labels=["red", "blue", "blue"])
    >>> items.class_names, items.labels
    (('blue', 'red'), array([1, 0, 0]))
    """
    items, several = load_with_sets(source, classes=classes, labels=labels, split=split, addresses=addresses)
    if several:
        raise InputError(f"{several}; images of several classes are read with --multi-label (adapt_multi_label).")
    return items


def load_with_sets(
    source: object, *, classes: object = None, labels: object = None, split: Any = None, addresses: bool = False
) -> tuple[Items, str]:
    """The same of images that may have sets of classes, and the beginning of an error if some have.

    The names of the classes are then the sets, as a table has them: names with ``;`` between, ``;`` alone for no class.
    """
    if not isinstance(split, str | os.PathLike | Split | None):
        raise InputError(f"Expected {argument('split')} as a split file or a Split, got {type(split).__name__}.")
    if isinstance(source, Items):
        return _relabel(_divided(source, split), classes, labels), ""
    ignore = isinstance(labels, int) and labels == UNLABELED
    if isinstance(source, (str, os.PathLike)):
        source = plain_path(source)
        if labels is not None and not ignore:
            raise InputError(
                f"Expected {argument('labels')} only with lists and arrays; for files give a CSV with a label column."
            )
        if (benchmark := _benchmark(source)) is not None:
            return _relabel(_divided(benchmark, split), classes, labels), ""
        listing = _list_path(source, addresses)
    else:
        found = list_object(source) if labels is None or ignore else None
        listing = found or list_memory(source, None if ignore else labels, addresses=addresses)
    known = () if classes is None else read_classes(classes)
    if listing.written:
        listing.leave_unlabeled(known)
    if not listing.ids:
        refuse_vectors(source)
    if not listing.ids and not listing.quarantined:
        detail = f" ({'; '.join(listing.all_notes())})" if listing.all_notes() else ""
        shown = f" in '{source}'" if isinstance(source, (str, os.PathLike)) else ""
        raise InputError(f"Expected images{shown}, found none{detail}.")
    if listing.ids and isinstance(split, (str, os.PathLike)):
        divide_by(listing, read_lists(split), classes)
    elif listing.ids and isinstance(source, (str, os.PathLike)) and (listing.root or is_archive(Path(source))):
        divide_by_found(listing, os.path.dirname(os.path.abspath(source)), classes)
    if ignore:
        listing.keys, listing.classes, listing.several = [None] * len(listing.ids), [], ""
        listing.notes = [note for note in listing.notes if not note.endswith(FIT_SETS)]
    elif isinstance(source, (str, os.PathLike)) and is_archive(Path(source)) and add_sample_labels(listing, source):
        listing.leave_unlabeled(known)
    items = _items(listing, classes)
    return (mark(items, split) if isinstance(split, Split) else items), listing.several


def _benchmark(source: str | os.PathLike[str]) -> Items | None:
    """Return the data set of ``ROOT:NAME`` with its lists; None for another source."""
    root, colon, name = os.fspath(source).rpartition(":")
    if not colon or find_dataset(name) is None or os.path.exists(source) or not os.path.isdir(root):
        return None
    from modalign.data.splits.benchmark_sets import open_dataset  # it lists folders by load_items itself

    return open_dataset(name, root)[0]


def _items(listing: Listing, classes: object) -> Items:
    own = (listing.classes or None) if listing.ordered else None
    naming = name_classes(listing.classes, own if classes is None else classes, indices=listing.numbered)
    return Items(
        ids=tuple(listing.ids),
        blobs=tuple(listing.blobs),
        labels=np.array([UNLABELED if k is None else naming.index[k] for k in listing.keys], dtype=np.int64),
        class_names=naming.names,
        quarantined=tuple(listing.quarantined),
        notes=(*listing.all_notes(), *naming.notes),
        parts=np.array(listing.parts, PART),
        division=listing.division,
        trouble=listing.trouble,
        given=tuple(listing.given),
    )


def _list_path(source: str | os.PathLike[str], addresses: bool) -> Listing:
    if address := remote_address(source):
        return list_address(address)
    require_path(source, "images")
    path = Path(source)
    if not _exists(path):
        raise InputError(
            f"Expected a folder, table, archive or image, '{path}' does not exist."
            + did_you_mean(path.name, siblings(path))
        )
    root = os.path.abspath(path)
    if path.is_dir():
        return list_export(root) or list_folder(root)
    if not is_regular(path.stat()):
        raise InputError(f"Expected a folder, table, archive or image, '{path}' is not a regular file.")
    if is_archive(path):
        return list_archive(root)
    if is_table(path):
        return list_table(path, addresses=addresses)
    if is_document(path):
        return list_document(path)
    if has_image_suffix(path.name):
        listing = Listing()
        listing.add(name_entries([path])[0], FileBlob(root))
        return listing
    refuse_vectors(path)
    raise InputError(
        "Expected a folder, a table (.csv, .tsv, .txt), Parquet, COCO or Label Studio (.json), an archive (.zip, .tar, "
        f".tar.gz) or an image, got '{path}'."
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


def _divided(items: Items, split: str | os.PathLike[str] | Split | None) -> Items:
    """The items with the parts of a given split, and with the order and the class names of a split file."""
    if split is None:
        return items
    if isinstance(split, Split):
        return mark(items, split)
    keys = [None if k == UNLABELED else items.class_names[k] for k in items.labels]
    listing = Listing([*items.ids], [*items.blobs], keys, [*items.class_names], [*items.quarantined], [*items.notes],
                      items.parts.tolist(), ordered=True, given=[*items.given])  # fmt: skip
    divide_by(listing, read_lists(split))
    return _items(listing, None)


def _relabel(items: Items, classes: object, labels: object) -> Items:
    if labels is not None and isinstance(labels, int) and labels == UNLABELED:
        items = items.unlabeled()
    elif labels is not None:
        keys = label_keys(labels, len(items))
        found = list(dict.fromkeys(k for k in keys if k is not None))
        naming = name_classes(found, classes, indices=are_indices(labels))
        new = [UNLABELED if k is None else naming.index[k] for k in keys]
        return replace(items, labels=np.array(new, dtype=np.int64), class_names=naming.names)
    if classes is None:
        return items
    known = items.class_names if (items.labels != UNLABELED).any() else ()
    naming = name_classes(known, classes)
    table = np.array([naming.index[name] for name in known] + [UNLABELED], dtype=np.int64)
    return replace(items, labels=table[items.labels], class_names=naming.names, notes=(*items.notes, *naming.notes))


__all__ = ["IMAGE_SUFFIXES", "Items", "load_items"]
