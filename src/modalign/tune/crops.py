"""Many random crops of every image: in batches for self-training on parts of pictures, or as vectors, once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from torch import Tensor

from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import Features, Quarantined
from modalign.core.progress import track
from modalign.data.decoding.decode import decode
from modalign.data.items import Items, load_items
from modalign.data.views import check_scale, cut, empty_views, random_crops, random_squares, to_pixels
from modalign.encoders.features.ahead import read_ahead
from modalign.encoders.features.extraction import COMMIT_SECONDS, finite_vectors
from modalign.encoders.features.shelf import Shelf, remaking
from modalign.tune.batches import MEMORY, Batch, ImageBatches, normalised, square_side
from modalign.tune.randomness import generator

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder


@dataclass(frozen=True)
class CropBatch(Batch):
    """b images with N crops each.

    Attributes
    ----------
    crops : (b, N, 3, H, W) uint8 on the CPU, a quarter of what they are as floats; N = 0 in epochs that have none.
    encoder : whose input they become.
    """

    crops: Tensor
    encoder: Encoder

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All crops (at most ``size``, 3, H, W) a time, image after image, as the tower takes them."""
        for few in self.crops.flatten(0, 1).split(size):
            yield normalised(self.encoder, few)


class CropBatches(ImageBatches):
    r"""Image batches that also cut N squares of side λ min(H, W), λ ~ U(α, β), from every decoded picture.

    They are cut at the picture's own resolution and then resized (WCA and FAIR, equation 6), other ones in every
    epoch; as all views they are functions of (seed, epoch, image).

    Parameters
    ----------
    items, encoder, augmentation, scale, seed, memory : as for :class:`~modalign.tune.batches.ImageBatches`.
    crops : N.
    side : (α, β).
    every : only every so many epochs have crops, beginning with the first.
    """

    def __init__(
        self,
        items: Items,
        encoder: Encoder,
        *,
        crops: int = 16,
        side: tuple[float, float] = (0.5, 0.9),
        every: int = 1,
        augmentation: str | Sequence[str] = ("center", "strong"),
        scale: tuple[float, float] = (0.3, 1.0),
        seed: int = 0,
        memory: int = MEMORY,
    ) -> None:
        super().__init__(
            items, encoder, augmentation=augmentation, scale=scale, seed=seed, memory=memory, whole=crops > 0
        )
        self.crops, self.side, self.every = crops, side, every
        card = repr((self.fingerprint, crops, side, every))
        self.fingerprint = hashlib.sha256(card.encode()).hexdigest()

    def batch(self, indices: Tensor, epoch: int) -> CropBatch:
        """The images ``indices`` (b,) as the training of ``epoch`` sees them."""
        batch = super().batch(indices, epoch)
        count = 0 if epoch % self.every else self.crops
        crops = empty_views(len(indices), count, size=self.size)
        if count:
            numbers = indices.tolist()
            for row, i, picture in zip(crops, numbers, self.pictures(numbers), strict=True):
                draws = generator("crops", self.seed, epoch, i)
                height, width = picture.shape[-2:]
                squares = random_squares(height, width, count, scale=self.side, generator=draws)
                cut(picture, squares, self.size, out=row)
        return CropBatch(batch.views, batch.labels, batch.indices, epoch, crops, self._encoder)


def embed_crops(
    source: object,
    encoder: Encoder,
    *,
    crops: int = 16,
    side: tuple[float, float] = (0.5, 0.9),
    seed: int = 0,
    by_content: bool = False,
) -> Features:
    """Unit vectors of images, and of N random squares of each as their ``tokens``: what WCA and FAIR on vectors see.

    Every image is decoded once; the squares are those of :class:`CropBatches` in its first epoch. Cost: N + 1 forward
    passes an image, all in one batch. An encoder with a store keeps the (N + 1)·d·4 bytes of every image by what the
    squares follow from, so that a second run computes nothing and a killed one is resumed, bit for bit.

    Parameters
    ----------
    source : anything :func:`~modalign.load_items` takes, labeled or not.
    encoder : of square pictures of one size.
    crops : N.
    side : (α, β), range of the side in units of the picture's short side.
    seed : of the squares.
    by_content : the squares follow from the picture and not from its place, so that one picture has the same ones
        whatever stands beside it; they are then not those of :class:`CropBatches`.

    Raises
    ------
    InputError : no image can be decoded, N is below 1, or the range is none.
    """
    if crops < 1:
        raise InputError(f"Expected at least 1 crop an image, got {crops}.")
    check_scale(side)
    return _embed_crops(load_items(source), encoder, crops, side, seed, by_content)


@remaking
def _embed_crops(
    items: Items, encoder: Encoder, crops: int, side: tuple[float, float], seed: int, by_content: bool
) -> Features:
    size = square_side(encoder)

    def prepare_one(i: int, shelf: Shelf | None) -> tuple[int, bytes, list[np.ndarray] | str | None]:
        try:
            data = items.read(i)
            # One content has one set of squares, or one at every place.
            key = hashlib.sha256(hashlib.sha256(data).digest() + (b"" if by_content else b"%d" % i)).digest()
            if shelf is not None and shelf.find([key]):
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
        store, shelf = encoder.store, None
        if store is not None:
            shelf = stack.enter_context(store.shelf(encoder.spec.fingerprint, f"crops-{setting}", dim))
        rows = stack.enter_context(_Rows(shelf))
        read = read_ahead(lambda few: [prepare_one(i, shelf) for i in few], range(len(items)), 32, items.size)
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
        table = rows.table(keys).reshape(len(keys), crops + 1, encoder.spec.dim)
    return Features(
        vectors=np.ascontiguousarray(table[:, 0]),
        ids=tuple(items.ids[i] for i in kept),
        labels=items.labels[kept],
        class_names=items.class_names,
        tokens=np.ascontiguousarray(table[:, 1:]),
        spec=encoder.spec,
        quarantined=(*items.quarantined, *refused),
        parts=tuple(items.parts[kept].tolist()) if items.division else (),
    )


class _Rows:
    """Rows by key: the new ones of a run, written to the shelf (if any) about every second and when it ends."""

    def __init__(self, shelf: Shelf | None) -> None:
        self.fresh: dict[bytes, np.ndarray] = {}
        self._shelf, self._waiting, self._written_at = shelf, list[bytes](), time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()  # what is encoded is kept also when somebody presses Ctrl-C

    def add(self, key: bytes, row: np.ndarray) -> None:
        self.fresh[key] = row
        self._waiting.append(key)
        if time.monotonic() - self._written_at >= COMMIT_SECONDS:
            self._write()

    def table(self, keys: Sequence[bytes]) -> np.ndarray:
        """(n, d) of all keys, each of them fresh or on the shelf."""
        old = [key for key in keys if key not in self.fresh]
        if old and self._shelf is not None:
            rows = self.fresh | dict(zip(old, self._shelf.read(old), strict=True))
        else:
            rows = self.fresh
        return np.stack([rows[key] for key in keys])

    def _write(self) -> None:
        if self._waiting and self._shelf is not None:
            self._shelf.add(self._waiting, np.stack([self.fresh[key] for key in self._waiting]))
        self._waiting, self._written_at = [], time.monotonic()


def _digest(pixels: Tensor) -> str:
    """SHA-256 of a picture (3, H, W) uint8, whatever file it came from."""
    return hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.contiguous().numpy().tobytes()).hexdigest()
