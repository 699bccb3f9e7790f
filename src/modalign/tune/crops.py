"""Many random crops of every image: in batches for self-training on parts of pictures, or as vectors, once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from modalign.data.items import Items, load_items
from modalign.data.views import cut, empty_views, random_crops, random_squares, to_pixels
from modalign.encoders.extraction import read_ahead
from modalign.errors import InputError, UndecodableError
from modalign.features import Features, Quarantined
from modalign.progress import track
from modalign.tune.batches import MEMORY, Augmentation, Batch, ImageBatches, normalised, square_side
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
        augmentation: Augmentation | Sequence[Augmentation] = ("centre", "strong"),
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
                squares = random_squares(*picture.shape[-2:], count, scale=self.side, generator=draws)
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

    Every image is decoded once; the squares are those of :class:`CropBatches` in its first epoch. They are not cached:
    n·N·d·4 bytes, and N + 1 forward passes an image.

    Parameters
    ----------
    source : anything :func:`~modalign.load_items` takes, labelled or not.
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
    items, size = load_items(source), square_side(encoder)

    def prepare(few: Sequence[int]) -> list[tuple[int, list[np.ndarray] | str]]:
        found: list[tuple[int, list[np.ndarray] | str]] = []
        for i in few:
            try:
                image = items.open(i)
            except UndecodableError as error:
                found.append((i, str(error)))
                continue
            pixels = to_pixels(image)
            draws = generator("crops", seed, _digest(pixels)) if by_content else generator("crops", seed, 0, i)
            squares = random_crops(pixels, crops, size=size, scale=side, generator=draws)
            found.append((i, [encoder.preprocessing.prepare(image), *squares.permute(0, 2, 3, 1).numpy()]))
        return found

    kept, rows, refused = [], [], []
    with closing(read_ahead(prepare, range(len(items)), 32)) as prepared:
        for i, pixels in track(prepared, f"Embedding crops on {encoder.device_name}", total=len(items), unit="images"):
            if isinstance(pixels, str):
                refused.append(Quarantined(items.ids[i], pixels))
                continue
            kept.append(i)
            rows.append(encoder.encode(pixels)[0].cpu().numpy())
    if not kept:
        raise InputError(f"Expected images, none of the {len(items)} can be decoded.")
    table = np.stack(rows)
    return Features(
        vectors=np.ascontiguousarray(table[:, 0]),
        ids=tuple(items.ids[i] for i in kept),
        labels=items.labels[kept],
        class_names=items.class_names,
        tokens=np.ascontiguousarray(table[:, 1:]),
        spec=encoder.spec,
        quarantined=(*items.quarantined, *refused),
    )


def _digest(pixels: Tensor) -> str:
    """SHA-256 of a picture (3, H, W) uint8, whatever file it came from."""
    return hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.contiguous().numpy().tobytes()).hexdigest()
