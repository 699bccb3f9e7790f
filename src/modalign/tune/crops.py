"""Image batches with random crops of each image, for self-training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from modalign.core.errors import InputError
from modalign.core.randomness import generator
from modalign.data.items import Items
from modalign.data.views import cut, empty_views, random_squares
from modalign.tune.batches import MEMORY, Batch, ImageBatches, normalized

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder


@dataclass(frozen=True)
class CropBatch(Batch):
    """b images with N crops each.

    Attributes
    ----------
    crops : Tensor of shape (b, N, 3, H, W), uint8
        Crops on the CPU, as bytes; N = 0 in epochs without crops.
    encoder : Encoder
        Encoder that the crops are prepared for.
    """

    crops: Tensor
    encoder: Encoder

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Iterate over all crops in chunks (at most ``size``, 3, H, W), preprocessed for the tower."""
        for few in self.crops.flatten(0, 1).split(size):
            yield normalized(self.encoder, few)


class CropBatches(ImageBatches):
    r"""Image batches with N square crops of side λ min(H, W), λ ~ U(α, β), of every image.

    Crops are taken at the original resolution and then resized (WCA and FAIR, equation 6). They are functions of (seed,
    epoch, image), like all views.

    Parameters
    ----------
    items, encoder, augmentation, scale, seed, memory : Items
        As for :class:`~modalign.tune.batches.ImageBatches`.
    crops : int, default=16
        N.
    side : tuple of (float, float)
        (α, β).
    every : int, default=1
        Interval of epochs with crops, beginning with the first.
    inside : {"picture", "view"}, default="picture"
        Source of the crops: the image, or the part of it in the first view, which must then be a random rectangle.
    """

    def __init__(
        self,
        items: Items,
        encoder: Encoder,
        *,
        crops: int = 16,
        side: tuple[float, float] = (0.5, 0.9),
        every: int = 1,
        inside: Literal["picture", "view"] = "picture",
        augmentation: str | Sequence[str] = ("center", "strong"),
        scale: tuple[float, float] = (0.3, 1.0),
        seed: int = 0,
        memory: int = MEMORY,
    ) -> None:
        super().__init__(
            items, encoder, augmentation=augmentation, scale=scale, seed=seed, memory=memory, whole=crops > 0
        )
        if inside == "view" and self.augmentations[0] != "random_resized_crop":
            raise InputError(f"Expected a first view that is a random rectangle, got '{self.augmentations[0]}'.")
        self.crops, self.side, self.every, self.inside = crops, side, every, inside
        card = repr((self.fingerprint, crops, side, every, *([inside] if inside == "view" else [])))
        self.fingerprint = hashlib.sha256(card.encode()).hexdigest()

    def batch(self, indices: Tensor, epoch: int) -> CropBatch:
        """Return the images ``indices`` (b,) in the training of ``epoch``."""
        batch = super().batch(indices, epoch)
        count = 0 if epoch % self.every else self.crops
        crops = empty_views(len(indices), count, size=self.size)
        if count:
            numbers = indices.tolist()
            for row, i, picture in zip(crops, numbers, self.pictures(numbers), strict=True):
                if self.inside == "view":
                    top, left, tall, wide = self._box(picture, self._draws(epoch, i, 0))[0].tolist()
                    picture = picture[:, top : top + tall, left : left + wide]
                draws = generator("crops", self.seed, epoch, i)
                height, width = picture.shape[-2:]
                squares = random_squares(height, width, count, scale=self.side, generator=draws)
                cut(picture, squares, self.size, out=row)
        return CropBatch(batch.views, batch.labels, batch.indices, epoch, crops, self._encoder)
