"""Duplicate images: removal of contradictory labels and of duplicates in different parts of a split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np

from modalign.core.display import n_images
from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import UNLABELED
from modalign.data.blobs import FileBlob, ImageBlob
from modalign.data.itemset import Items
from modalign.data.names import quoted

_HEAD = 2**12  # bytes at the start of a file that are compared before all of it is read


def content_hash(items: Items, i: int) -> str:
    """Return 16 hexadecimal digits that identify the bytes of an image; "" if it cannot be read."""
    try:
        return hashlib.sha256(items.read(i)).hexdigest()[:16]
    except UndecodableError:
        return ""


def same_bytes(items: Items, indices: Iterable[int]) -> list[list[int]]:
    """Return groups of two or more images with equal bytes, in the order of ``indices``.

    Sizes are compared first, then the first 4 KiB; only files that agree in both are read completely.
    """
    groups = [list(indices)]
    for key in (_size, _head, content_hash):
        groups = [part for group in groups for part in _parts(group, partial(key, items))]
    return groups


def one_label_each(items: Items) -> Items:
    """Remove images whose bytes equal those of an image of another class, since one of the labels is wrong.

    Removed images are in ``quarantined`` and named in ``notes``. Images that the source marks as test are kept.
    """
    return _one_label_each(items, _labeled_copies(items))[0]


def learnable(items: Items) -> Items:
    """Return the images to learn from: without contradictory labels and without duplicates.

    In addition to :func:`one_label_each`, duplicates within a class are removed, so that no split contains an image in
    two parts. Duplicates that the source itself placed in two parts are kept and named in a note.

    Parameters
    ----------
    items : Items
        Labeled or not; images without a label are not checked.

    Raises
    ------
    InputError
        If no labeled image is left.

    Notes
    -----
    Requires one ``stat`` call per image; a file is read only if another file has the same size.
    """
    items, groups = _one_label_each(items, _labeled_copies(items))
    drawn_from = "train" if items.division else ""
    first: dict[int, int] = {}
    for group in groups:
        pool = [i for i in group if items.parts[i] == drawn_from]
        first.update((i, pool[0]) for i in pool[1:])
    notes = _across(items, groups)
    if first:
        copy = next(iter(first))
        are = "image is a copy of another" if len(first) == 1 else "images are copies of others"
        notes.append(f"{len(first)} {are}, such as '{items.ids[copy]}' of '{items.ids[first[copy]]}': each counts once")
    reasons = {i: f"a copy of '{items.ids[other]}'" for i, other in first.items()}
    return replace(_without(items, reasons), notes=(*items.notes, *notes))


def _labeled_copies(items: Items) -> list[list[int]]:
    return same_bytes(items, np.flatnonzero(items.labels != UNLABELED).tolist())


def _one_label_each(items: Items, groups: list[list[int]]) -> tuple[Items, list[list[int]]]:
    """The images of one label each, and which of these have the same bytes."""
    wrong = [group for group in groups if len(set(items.labels[group])) > 1]
    if not wrong:
        return items, groups
    reasons = {i: _contradiction(items, i, group) for group in wrong for i in group if items.parts[i] != "test"}
    kept = _without(items, reasons)
    note = _contradictions(items, wrong)
    if not (kept.labels != UNLABELED).any():
        raise InputError(f"Expected images with one label each, got none: {note}.")
    note += "; one of the labels is wrong, so these images are left out" if reasons else ""
    place = {i: k for k, i in enumerate(i for i in range(len(items)) if i not in reasons)}
    left = [[place[i] for i in group if i in place] for group in groups]
    return replace(kept, notes=(*items.notes, note)), [group for group in left if len(group) > 1]


def _without(items: Items, reasons: dict[int, str]) -> Items:
    """The images without some, which are quarantined."""
    kept = items.select([i for i in range(len(items)) if i not in reasons])
    return replace(kept, quarantined=items.left_out(reasons))


def _contradictions(items: Items, groups: Sequence[Sequence[int]]) -> str:
    """Return a note on images with the same bytes and different classes."""
    pairs = [(group[0], next(i for i in group if items.labels[i] != items.labels[group[0]])) for group in groups]
    named = [" and ".join(f"'{items.ids[i]}' ({items.class_names[items.labels[i]]})" for i in pair) for pair in pairs]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"the same bytes carry two labels: {'; '.join(named[:3])}{more}"


def _contradiction(items: Items, i: int, group: Sequence[int]) -> str:
    other = next(j for j in group if items.labels[j] != items.labels[i])
    return f"the same bytes as '{items.ids[other]}', whose class is '{items.class_names[items.labels[other]]}'"


def _across(items: Items, groups: Sequence[Sequence[int]]) -> list[str]:
    """Notes on copies that the source itself put into two of its parts."""
    notes = []
    for part, other in (("test", "train"), ("validation", "train"), ("test", "validation")):
        shared = [group for group in groups if {part, other} <= set(items.parts[group])]
        names = [items.ids[i] for group in shared for i in group if items.parts[i] == part]
        if names:
            images = n_images(len(names))
            notes.append(f"{images} marked {part} have the bytes of one marked {other}, such as {quoted(names, 2)}")
    return notes


def _parts(group: Sequence[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """``group`` cut by ``key``, without the parts of one member and those whose key is empty."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for i in group:
        found[key(i)].append(i)
    return [members for value, members in found.items() if len(members) > 1 and value != ""]


def _size(items: Items, i: int) -> int | None:
    blob = items.blobs[i]
    return None if isinstance(blob, ImageBlob) else blob.size()  # of a picture it is a guess


def _head(items: Items, i: int) -> bytes | None:
    blob = items.blobs[i]
    if not isinstance(blob, FileBlob):
        return None
    with suppress(OSError), open(blob.path, "rb") as file:
        return file.read(_HEAD)
    return None
