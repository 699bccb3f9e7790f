"""The images of a source as one ordered list, with names, labels and parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from modalign.core.features import UNLABELLED, Quarantined
from modalign.data.blobs import Blob, Identity
from modalign.data.decoding.decode import Target, decode

PART = "<U10"  # the type of an array of parts


@dataclass(frozen=True, eq=False)
class Items:
    """n images with names and labels; the bytes stay where they are until they are read.

    Attributes
    ----------
    ids : tuple of str
        n names, no two alike. Of files, the path below the folder that holds all of them: the folder that
        was given, that of a single file, the innermost one that the files of a list have in common. Of a table, the
        path as it stands there; of a picture in memory, its place in the list.
    blobs : tuple of Blob
        n places that the bytes come from.
    labels : ndarray of shape (n,), int64, default=None
        Indices into ``class_names``; −1 where unknown.
    class_names : tuple of str, default=()
        C names in label order, also of classes without an image.
    quarantined : tuple of Quarantined, default=()
        What was left out when listing, with reasons.
    notes : tuple of str, default=()
        What a person should know about the source, in words.
    parts : ndarray of shape (n,), default=None
        Str; "train", "validation" or "test" where the source says so, else "".
    division : str, default=""
        What divides the images into these parts, in words; "" if nothing does.
    trouble : str, default=""
        Why nothing can be learned from the images, or tested on them, as a whole; "" if it can.
    given : tuple of str, default=()
        Names of everything that was given, quarantined or not, in that order.

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
            object.__setattr__(self, "labels", np.full(len(self.ids), UNLABELLED, dtype=np.int64))
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
            f"{int((self.labels == UNLABELLED).sum())} unlabeled, {len(self.quarantined)} quarantined)"
        )

    def read(self, i: int) -> bytes:
        """The bytes of image ``i``; :class:`UndecodableError` with a reason if they cannot be had. Thread-safe."""
        return self.blobs[i].read()

    def identity(self, i: int) -> Identity | None:
        """(path, size, mtime_ns, ctime_ns, inode) of image ``i`` without reading it; None if there is no file.

        A member of an archive has the archive's numbers and the path ``archive.zip!member``.
        """
        return self.blobs[i].identity()

    def size(self, i: int) -> int:
        """About how many bytes :meth:`read` of image ``i`` returns, without reading them."""
        return self.blobs[i].size()

    def open(self, i: int, *, target: Target | None = None) -> Image.Image:
        """Image ``i`` decoded as RGB; :class:`UndecodableError` with a reason if that cannot be done.

        ``target`` is that of :func:`~modalign.data.decoding.decode.decode`, for those who make the picture smaller.
        """
        return decode(self.read(i), target=target)

    def select(self, indices: np.ndarray | Sequence[int] | slice) -> Items:
        """The given images (indices, a mask or a slice) in that order, with the same class names and parts."""
        if not isinstance(indices, slice):
            indices = np.asarray(indices) if len(indices) else np.empty(0, dtype=np.int64)
        index = np.arange(len(self))[indices]
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            blobs=tuple(self.blobs[i] for i in index),
            labels=self.labels[index],
            parts=self.parts[index],
            given=(),
        )

    def unlabelled(self) -> Items:
        """The same images and class names without the labels."""
        return replace(self, labels=np.full(len(self), UNLABELLED, dtype=np.int64))
