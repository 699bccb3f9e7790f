"""The ordered list of images of a source, with ids, labels and parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from modalign.core.arrays import row_numbers
from modalign.core.features import UNLABELED, Quarantined
from modalign.core.renaming import former_attributes
from modalign.data.blobs import Blob, Identity
from modalign.data.decoding.decode import Target, decode

PART = "<U10"  # the type of an array of parts


@former_attributes(unlabelled="unlabeled")
@dataclass(frozen=True, eq=False)
class Items:
    """Ordered list of n images with ids and labels. Bytes are read on access.

    Attributes
    ----------
    ids : tuple of str
        Unique names. For files, the path relative to the folder passed, to the folder of a single file, or to the
        innermost common folder of a list of files. For a table, the path as written there; for an image in memory, its
        position in the list.
    blobs : tuple of Blob
        Sources of the bytes.
    labels : ndarray of shape (n,), int64, default=None
        Indices into ``class_names``; −1 where unknown.
    class_names : tuple of str, default=()
        C names in label order, including classes without an image.
    quarantined : tuple of Quarantined, default=()
        Items left out when listing, with reasons.
    notes : tuple of str, default=()
        Messages for the user about the source.
    parts : ndarray of shape (n,), default=None
        "train", "validation" or "test" if the source specifies it, else "".
    division : str, default=""
        Description of what divides the images into these parts; "" if nothing does.
    trouble : str, default=""
        Why the images cannot be used for training or testing; "" if they can.
    given : tuple of str, default=()
        Names of all entries passed, quarantined or not, in that order.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> digits
    Items(30 images, 10 classes, 0 unlabeled, 0 quarantined)
    >>> digits.open(0).size
    (8, 8)
    >>> digits.select([0, 10]).labels
    array([0, 0])
    """

    ids: tuple[str, ...]
    blobs: tuple[Blob, ...] = field(repr=False)
    labels: np.ndarray = field(default=None, repr=False)  # type: ignore[arg-type]  # ``__post_init__`` puts an array there
    class_names: tuple[str, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    parts: np.ndarray = field(default=None, repr=False)  # type: ignore[arg-type]  # ``__post_init__`` puts an array there
    division: str = ""
    trouble: str = ""
    given: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.labels is None:
            object.__setattr__(self, "labels", np.full(len(self.ids), UNLABELED, dtype=np.int64))
        parts = np.full(len(self.ids), "", PART) if self.parts is None else np.asarray(self.parts, PART)
        object.__setattr__(self, "parts", parts)
        if not self.given:
            object.__setattr__(self, "given", (*self.ids, *(entry.id for entry in self.quarantined)))
        assert len(self.ids) == len(self.blobs) == len(self.labels) == len(self.parts)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return (
            f"Items({len(self)} images, {len(self.class_names)} classes, "
            f"{int((self.labels == UNLABELED).sum())} unlabeled, {len(self.quarantined)} quarantined)"
        )

    def read(self, i: int) -> bytes:
        """Return the bytes of image ``i``; raise :class:`UndecodableError` if they are not available. Thread-safe."""
        return self.blobs[i].read()

    def identity(self, i: int) -> Identity | None:
        """Return (path, size, mtime_ns, ctime_ns, inode) of image ``i``; None if there is no file.

        A member of an archive has the values of the archive and the path ``archive.zip!member``.
        """
        return self.blobs[i].identity()

    def size(self, i: int) -> int:
        """Return the approximate number of bytes of image ``i`` without reading it."""
        return self.blobs[i].size()

    def open(self, i: int, *, target: Target | None = None) -> Image.Image:
        """Decode image ``i`` as RGB; raise :class:`UndecodableError` with a reason on failure.

        ``target`` is that of :func:`~modalign.data.decoding.decode.decode`, for callers that reduce the image.
        """
        return decode(self.read(i), target=target)

    def select(self, indices: np.ndarray | Sequence[int] | slice) -> Items:
        """Return the selected images (indices, a mask or a slice) in that order, with the same class names."""
        index = row_numbers(indices, len(self))
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            blobs=tuple(self.blobs[i] for i in index),
            labels=self.labels[index],
            parts=self.parts[index],
            given=(),
        )

    def left_out(self, reasons: Mapping[int, str]) -> tuple[Quarantined, ...]:
        """Return ``quarantined`` and the images at these indices, which could not be decoded for these reasons."""
        return (*self.quarantined, *(Quarantined(self.ids[i], reasons[i]) for i in sorted(reasons)))

    def unlabeled(self) -> Items:
        """Return the same images and class names without the labels."""
        return replace(self, labels=np.full(len(self), UNLABELED, dtype=np.int64))
