"""Cached features of images and of random square crops of each image."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Self

import numpy as np
from torch import Tensor

from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import Features, Quarantined
from modalign.core.progress import track
from modalign.core.randomness import generator, require_seed
from modalign.data.decoding.decode import decode
from modalign.data.items import Items, load_items
from modalign.data.views import check_scale, random_crops, to_pixels
from modalign.encoders.features.ahead import read_ahead
from modalign.encoders.features.extraction import COMMIT_SECONDS, finite_vectors
from modalign.encoders.features.vector_table import VectorTable, remaking

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder


def embed_crops(
    source: object,
    encoder: Encoder,
    *,
    crops: int = 16,
    side: tuple[float, float] = (0.5, 0.9),
    seed: int = 0,
    by_content: bool = False,
) -> Features:
    """Embed images, and N random square crops of each image as ``tokens``, for WCA and FAIR on vectors.

    Every image is decoded once; the crops are those of :class:`~modalign.tune.crops.CropBatches` in its first epoch.
    Cost: N + 1 forward passes per image, in one batch. An encoder with a store caches the (N + 1)·d·4 bytes of each
    image, so a second run computes nothing and a killed run continues with bitwise equal results.

    Parameters
    ----------
    source : object
        Any source of :func:`~modalign.load_items`, labeled or not.
    encoder : Encoder
        Encoder of square images of a fixed size.
    crops : int, default=16
        N.
    side : tuple of (float, float)
        (α, β), range of the side as a share of the short side of the image.
    seed : int, default=0
        Seed of the crops.
    by_content : bool, default=False
        Derive the crops from the image content instead of its index, so that they do not depend on the other images.
        They then differ from those of ``CropBatches``.

    Raises
    ------
    InputError
        No image can be decoded, N is below 1, or the range is invalid.
    """
    if crops < 1:
        raise InputError(f"Expected at least 1 crop per image, got {crops}.")
    check_scale(side)
    require_seed(seed, "seed")
    return _embed_crops(load_items(source), encoder, crops, side, seed, by_content)


@remaking
def _embed_crops(
    items: Items, encoder: Encoder, crops: int, side: tuple[float, float], seed: int, by_content: bool
) -> Features:
    size = square_side(encoder)

    def prepare_one(i: int, table: VectorTable | None) -> tuple[int, bytes, list[np.ndarray] | str | None]:
        try:
            data = items.read(i)
            # One content has one set of squares, or one at every place.
            key = hashlib.sha256(hashlib.sha256(data).digest() + (b"" if by_content else b"%d" % i)).digest()
            if table is not None and table.find([key]):
                return i, key, None
            image = decode(data)
        except UndecodableError as error:
            return i, b"", str(error)
        pixels = to_pixels(image)
        draws = generator("crops", seed, _digest(pixels)) if by_content else generator("crops", seed, 0, i)
        squares = random_crops(pixels, crops, size=size, scale=side, generator=draws)
        return i, key, [encoder.preprocessing.prepare(image), *squares.permute(0, 2, 3, 1).numpy()]

    kept, keys, refused = [], [], []
    setting = hashlib.sha256(repr((crops, *map(float, side), seed, by_content)).encode()).hexdigest()[:16]
    dim = (crops + 1) * encoder.spec.dim
    with ExitStack() as stack:
        store, table = encoder.store, None
        if store is not None:
            table = stack.enter_context(store.table(encoder.spec.fingerprint, f"crops-{setting}", dim))
        rows = stack.enter_context(_Rows(table))
        read = read_ahead(lambda few: [prepare_one(i, table) for i in few], range(len(items)), 32, items.size)
        prepared = stack.enter_context(closing(read))
        steps = track(prepared, f"Embedding crops on {encoder.device_name}", total=len(items), unit="images")
        for i, key, pixels in steps:
            if isinstance(pixels, str):
                refused.append(Quarantined(items.ids[i], pixels))
                continue
            kept.append(i)
            keys.append(key)
            if pixels is not None and key not in rows.fresh:
                rows.add(key, finite_vectors(encoder, encoder.encode(pixels)[0]).reshape(-1))
        if not kept:
            raise InputError("Expected an image that can be decoded, got none.")
        vectors = rows.table(keys).reshape(len(keys), crops + 1, encoder.spec.dim)
    return Features(
        vectors=np.ascontiguousarray(vectors[:, 0]),
        ids=tuple(items.ids[i] for i in kept),
        labels=items.labels[kept],
        class_names=items.class_names,
        tokens=np.ascontiguousarray(vectors[:, 1:]),
        spec=encoder.spec,
        quarantined=(*items.quarantined, *refused),
        parts=tuple(items.parts[kept].tolist()) if items.division else (),
    )


class _Rows:
    """Rows by key: the new ones of a run, written to the table (if any) about every second and when it ends."""

    def __init__(self, table: VectorTable | None) -> None:
        self.fresh: dict[bytes, np.ndarray] = {}
        self._table, self._waiting, self._written_at = table, list[bytes](), time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()  # encoded vectors are kept also after Ctrl-C

    def add(self, key: bytes, row: np.ndarray) -> None:
        self.fresh[key] = row
        self._waiting.append(key)
        if time.monotonic() - self._written_at >= COMMIT_SECONDS:
            self._write()

    def table(self, keys: Sequence[bytes]) -> np.ndarray:
        """(n, d) of all keys, each of them new or in the table."""
        old = [key for key in keys if key not in self.fresh]
        if old and self._table is not None:
            rows = self.fresh | dict(zip(old, self._table.read(old), strict=True))
        else:
            rows = self.fresh
        return np.stack([rows[key] for key in keys])

    def _write(self) -> None:
        if self._waiting and self._table is not None:
            self._table.add(self._waiting, np.stack([self.fresh[key] for key in self._waiting]))
        self._waiting, self._written_at = [], time.monotonic()


def _digest(pixels: Tensor) -> str:
    """SHA-256 of the pixels (3, H, W) uint8, independent of the file."""
    return hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.contiguous().numpy().tobytes()).hexdigest()


def square_side(encoder: Encoder) -> int:
    """The side of the squares that the encoder takes."""
    preprocessing = encoder.preprocessing
    height, width = preprocessing.crop or preprocessing.size
    if preprocessing.resize in ("patches", "none") or height != width:
        raise InputError(
            f"Expected an encoder of square pictures of one size, '{encoder.name}' takes others; use a CLIP checkpoint."
        )
    return height
