"""Rows of an image, a class and a part, shared by all formats."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from modalign.core.errors import InputError, current_options
from modalign.core.features import UNLABELED
from modalign.core.label_matrix import UNKNOWN, check_separable, label_sets
from modalign.core.labels import is_missing
from modalign.core.name_matching import join_alternatives
from modalign.data.blobs import Blob, BytesBlob, FileBlob, ImageBlob, find_image
from modalign.data.decoding.sniff import sniff
from modalign.data.inventory import NO_LABEL, Listing
from modalign.data.names import natural_key, quoted
from modalign.data.splits.division import part_called

if TYPE_CHECKING:
    from modalign.data.itemset import Items
    from modalign.data.label_sets import LabeledSets

_FOR_SETS = ("coco", "label_studio", "fiftyone", "roboflow", "parquet", "webdataset")
Label = str | tuple[str, ...] | None
"""Name of a class, or the names of all classes that an image shows; None if unknown."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f#\\]")
_STEM_BYTES = 180  # file systems take 255 with the ending and a number
_ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WebP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}


class AnsweredImages(Protocol):
    """Interface of predictions: ids, predicted names, and (n, C) probabilities."""

    @property
    def ids(self) -> tuple[str, ...]: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def probabilities(self) -> np.ndarray: ...


class AnsweredSets(Protocol):
    """Interface of predictions of several classes per image: the (n, C) ``answers`` are 1 for classes shown."""

    @property
    def ids(self) -> tuple[str, ...]: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def probabilities(self) -> np.ndarray: ...
    @property
    def answers(self) -> np.ndarray: ...


@dataclass(frozen=True)
class LabeledRow:
    """An image for another program.

    Attributes
    ----------
    name : str
        Its id.
    blob : Blob
        Its bytes.
    label : str, tuple of str or None
        Name of its class, or names of all classes that it shows; None if unknown.
    part : str
        "train", "validation", "test" or "".
    score : float or None
        Probability of a predicted label, or the lowest probability that a predicted set is right about a class; None
        for a label that a person gave.
    scores : tuple of float, default=()
        Probability of each of the predicted ``names``.
    """

    name: str
    blob: Blob
    label: Label
    part: str
    score: float | None = None
    scores: tuple[float, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All classes of the image; () if it shows none or they are unknown."""
        return (self.label,) if isinstance(self.label, str) else self.label or ()

    @property
    def one(self) -> str | None:
        """The class, of an image of one class.

        Raises
        ------
        InputError
            The label is a set of classes.
        """
        if isinstance(self.label, tuple):
            objects = ["pandas", "polars", "datasets"] if current_options() is None else []  # no command has them
            raise InputError(
                f"Expected one class per image for this format, '{self.name:.80}' has a set of classes; write "
                f"{join_alternatives([*_FOR_SETS, *objects])}."
            )
        return self.label


def rows_of(items: Items, predictions: AnsweredImages | AnsweredSets | None = None) -> list[LabeledRow]:
    """The images with their labels; with predictions, the images that these are of, with the answers."""
    if predictions is None:
        names = [None if k == UNLABELED else items.class_names[k] for k in items.labels.tolist()]
        columns = zip(items.ids, items.blobs, names, items.parts.tolist(), strict=True)
        return [LabeledRow(*column) for column in columns]
    place = {name: i for i, name in enumerate(items.ids)}
    if unknown := [name for name in predictions.ids if name not in place]:
        raise InputError(f"Expected predictions of these images, got also {quoted(unknown, 2)}.")
    P = predictions.probabilities
    labels: Sequence[Label]
    if hasattr(predictions, "names"):
        labels, scores = predictions.names, P.max(axis=1)
        each = [(score,) for score in scores.tolist()]
    else:
        labels = label_sets(predictions.answers, predictions.class_names)
        scores = np.where(predictions.answers == 1, P, 1 - P).min(axis=1)
        each = [tuple(row[shown == 1].tolist()) for row, shown in zip(P, predictions.answers, strict=True)]
    return [
        LabeledRow(name, items.blobs[place[name]], label, str(items.parts[place[name]]), score, of_names)
        for name, label, score, of_names in zip(predictions.ids, labels, scores.tolist(), each, strict=True)
    ]


def rows_of_sets(source: LabeledSets) -> list[LabeledRow]:
    """The images with all classes that they show.

    Raises
    ------
    InputError
        Some classes of an image are known and others are not, which no format can tell.
    """
    unknown = source.matrix == UNKNOWN
    partly = np.flatnonzero(unknown.any(axis=1) & ~unknown.all(axis=1))
    if len(partly):
        raise InputError(
            f"Expected images whose classes are all known or all unknown, '{source.items.ids[partly[0]]}' and "
            f"{len(partly) - 1} others are known in part; complete their labels, or leave them out."
        )
    labels: list[Label] = [*label_sets(source.matrix, source.class_names)]
    for i in np.flatnonzero(unknown.any(axis=1)).tolist():
        labels[i] = None
    columns = zip(source.items.ids, source.items.blobs, labels, source.items.parts.tolist(), strict=True)
    return [LabeledRow(*column) for column in columns]


def one_or_several(names: Iterable[str], *, empty: Label = None) -> Label:
    """The names as a label; ``empty`` without any: ``()`` where that means that no class is shown."""
    found = tuple(dict.fromkeys(names))
    return found if len(found) > 1 else found[0] if found else empty


def listed(
    rows: Iterable[tuple[str, object, Label, str]],
    what: str,
    classes: Sequence[str] = (),
    base: str = "",
    *,
    numbered: bool = False,
    known: Iterable[str] = (),
) -> Listing:
    """A listing of (name, image, label, part); an image is a path below ``base``, bytes, a picture, or a blob.

    ``classes`` are all names in label order where the source has such an order; without them, labels may be
    ``numbered``: integers, not text. ``known`` are labels that are names in any case, see
    :class:`~modalign.data.inventory.Listing`. If a label is a set of classes, the keys of the listing are sets, as
    tables have them: names with ``;`` between, ``;`` alone for no class.
    """
    listing = Listing(known={*classes, *known})
    strange: set[str] = set()
    for name, image, label, part in rows:
        for own in (label,) if isinstance(label, str) else label or ():
            if not (own in classes if classes else own.strip()):
                wanted = f"one of the {len(classes)} classes that it lists" if classes else "the name of a class"
                raise InputError(f"Expected {wanted} as the label of '{name}' in {what}, got {own!r:.60}.")
        key = class_key(listing, name, label, what)
        blob, reason = blob_of(image, base)
        name = unique_name(name, listing)  # also of an image that is left out: the number is that of the row
        known = part_called(part)
        strange |= {part} - {""} if not known else set()
        if blob is None:
            listing.refuse(name, reason)
        else:
            listing.add(name, blob, key, known)
    if listing.quarantined and not listing.ids:
        missing = quoted([entry.id for entry in listing.quarantined], 2)
        raise InputError(f"Expected image files as {what} names them, none of them is there: {missing}.")
    found = list(dict.fromkeys(key for key in listing.keys if key is not None))
    if listing.several:
        check_separable(key for key in found if key in classes)
        classes = ()
    listing.classes, listing.ordered = list(classes) or sorted(found, key=natural_key), bool(classes)
    listing.written = not classes
    keys = set(listing.classes) - {NO_LABEL}
    listing.numbered = numbered and not classes and bool(keys) and all(key.isdecimal() for key in keys)
    if any(listing.parts):
        listing.division = what
    if strange:
        listing.notes.append(f"{what} also names the parts {quoted(sorted(strange))}: these images are of no part")
    return listing


def class_key(listing: Listing, name: str, label: Label, what: str) -> str | None:
    """The label of an image as the key of its class; a set of classes as tables have it, which the listing notes."""
    if not isinstance(label, tuple):
        return label
    check_separable(label)
    classes = f"{len(label)} classes: {', '.join(label)}" if label else "an empty list of classes"
    listing.several = listing.several or f"Expected one class per image, {what} gives '{name:.80}' {classes:.80}"
    return ";".join(label) or ";"


def blob_of(image: object, base: str = "") -> tuple[Blob | None, str]:
    """The source of the bytes of an image of any form, or None and the reason."""
    if isinstance(image, Mapping):  # of Hugging Face datasets
        image = image.get("bytes") or image.get("path")
    if isinstance(image, (bytes, bytearray, memoryview)):
        return BytesBlob(bytes(image)), ""
    if isinstance(image, (str, os.PathLike)):
        path, reason = find_image(os.fspath(image), os.path.abspath(os.path.join(base, os.fspath(image))))
        return (FileBlob(path), "") if reason is None else (None, reason)
    if hasattr(image, "read") and hasattr(image, "identity"):
        return cast("Blob", image), ""
    if is_missing(image):
        return None, "the row names no image"
    return ImageBlob(cast(Any, image)), ""  # a picture or an array; whether it can be read shows in reading


def path_inside(name: str, document: str) -> str:
    """The absolute path of an image that a document names, which must lie below the folder of the document.

    A document may be untrusted. The files that it names are opened, and may be shown on a page. Links are followed, as
    in any folder of images.
    """
    folder = os.path.dirname(os.path.abspath(document))
    path = os.path.normpath(os.path.join(folder, name))
    if not path.startswith(os.path.join(folder, "")):
        raise InputError(
            f"Expected images in the folder of '{document}', it names '{name:.80}', which is elsewhere; put the file "
            "beside its images and name them relative to it."
        )
    return path


def unique_name(name: str, listing: Listing) -> str:
    """``name``, with a number behind it where the listing has it already."""
    taken = listing.__dict__.setdefault("_taken", set())
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name}#{count}"
    taken.add(found)
    return found


def file_names(rows: Sequence[LabeledRow]) -> list[str]:
    """A file name without folders for each row, with the ending of its format; no two are alike without endings."""
    taken: set[str] = set()
    names = []
    for row in rows:
        path = PurePosixPath(_UNSAFE.sub("_", row.name))
        ending = path.suffix if 1 < len(path.suffix) <= 10 else _ENDINGS.get(sniff(row.blob.read()) or "", ".img")
        stem = file_stem("_".join([*path.parts[:-1], path.stem]), taken)
        names.append(f"{stem}{ending}")
    return names


def file_stem(name: str, taken: set[str]) -> str:
    """Return a safe file or folder name that differs from all in ``taken``, and add it there."""
    safe = _UNSAFE.sub("_", name.replace("/", "_")).strip("_. ")
    safe = safe.encode()[:_STEM_BYTES].decode(errors="ignore") or "image"
    found, count = safe, 1
    while found.casefold() in taken:
        count += 1
        found = f"{safe}-{count}"
    taken.add(found.casefold())
    return found


def require_format(sound: object, what: str, path: object, got: Any = "") -> None:
    """Raise unless a document matches its format."""
    if not sound:
        shown = f", got {got!r:.60}" if got != "" else ""
        raise InputError(f"Expected {what} in '{path}'{shown}; correct the file or export it again.")
