"""Image batches for training inside a tower; each file is decoded once.

All views are pure functions of (seed, epoch, image, view), so a resumed run gets the same views, for any order and
number of processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from modalign.core.errors import InputError, UndecodableError, UnknownNameError
from modalign.core.features import Quarantined
from modalign.core.progress import track
from modalign.core.randomness import generator
from modalign.data.augment import rand_augment
from modalign.data.decoding.decode import decode
from modalign.data.items import Items
from modalign.data.names import quoted
from modalign.data.views import cut, random_rectangles, to_pixels
from modalign.encoders.features.ahead import read_ahead
from modalign.encoders.features.crop_features import square_side

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder

Augmentation = Literal["center", "flip", "random_resized_crop", "random_resized_crop_flip", "randaugment", "strong"]
_PREPARED = ("center", "flip", "randaugment")  # made from the encoder's own view; the others from the whole picture
MEMORY = 2**30


@dataclass(frozen=True)
class Batch:
    """Batch of b images.

    Attributes
    ----------
    views : tuple of Tensor
        One tensor (b, 3, H, W) per view, normalized, in the dtype and on the device of the encoder.
    labels, indices : Tensor of shape (b,), int64
        Labels on the same device, −1 if unknown; indices into the items, on the CPU.
    epoch : int
        Counted from 0.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    indices: Tensor
    epoch: int

    @property
    def pixels(self) -> Tensor:
        """The first view."""
        return self.views[0]


class ImageBatches:
    """Training images in batches. Each file is read and decoded once, in the constructor.

    Decoded images (for crops) or their preprocessed views are cached within ``memory`` bytes; further images are
    decoded in every epoch. Images that cannot be decoded are left out and listed.

    Parameters
    ----------
    items : Items
        Images, labeled or not.
    encoder : Encoder
        Encoder with the preprocessing; it must have square images of a fixed size.
    augmentation : str or sequence of str, default="random_resized_crop"
        Augmentation, or one per view:

        ============================  =====================================================================
        ``center``                    the encoder's own preprocessing
        ``flip``                      the same, mirrored every second time
        ``random_resized_crop``       a rectangle of a random area and shape; never mirrored
        ``random_resized_crop_flip``  the same, mirrored every second time: not for digits, letters or signs
        ``randaugment``               the encoder's view after two random operations; never mirrored
        ``strong``                    rectangle, mirroring and RandAugment (FAIR's strong view)
        ============================  =====================================================================
    scale : tuple of (float, float)
        Range of the area of rectangles; (0.08, 1) is that of torchvision and CoOp's code base.
    seed : int, default=0
        Seed of the augmentation.
    memory : int, default=MEMORY
        Bytes of cached pixels.
    whole : bool, default=False
        Cache decoded images for :meth:`pictures` even if no view needs them.

    Attributes
    ----------
    items : Items
        Images that can be decoded, in order; ``Batch.indices`` are indices into them.
    constant : bool
        Whether the first view of an image is the same in every epoch.
    kept : ndarray
        Their indices in the items passed.
    quarantined : tuple of Quarantined
        The others, with reasons, after those of the items themselves.
    fingerprint : str
        SHA-256 of everything that affects the batches, including the bytes of the images.

    Raises
    ------
    InputError
        No image can be decoded, or the encoder has no fixed square image size.
    """

    def __init__(
        self,
        items: Items,
        encoder: Encoder,
        *,
        augmentation: str | Sequence[str] = "random_resized_crop",
        scale: tuple[float, float] = (0.08, 1.0),
        seed: int = 0,
        memory: int = MEMORY,
        whole: bool = False,
    ) -> None:
        self.augmentations = (augmentation,) if isinstance(augmentation, str) else tuple(augmentation)
        for name in self.augmentations:
            if name not in get_args(Augmentation):
                raise UnknownNameError("augmentation", str(name), get_args(Augmentation))
        if not self.augmentations:
            raise InputError("Expected at least one augmentation, got none; give 'center' for plain views.")
        self.constant = self.augmentations[0] == "center"
        if not 0 < scale[0] <= scale[1] <= 1:
            raise InputError(f"Expected a range of scales with 0 < low ≤ high ≤ 1, got {scale}.")
        self._encoder, self.seed, self.scale = encoder, seed, scale
        self.size = square_side(encoder)
        self._whole = whole or any(name not in _PREPARED for name in self.augmentations)
        self._target = None if self._whole else encoder.preprocessing.target
        self._room = memory
        self._cache: dict[int, Tensor] = {}
        self._read_all(items)

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, indices: Tensor, epoch: int) -> Batch:
        """Return the batch of images ``indices`` (b,) for an epoch."""
        pictures = self._pictures(indices.tolist())
        views = tuple(self._view(pictures, indices, epoch, number) for number in range(len(self.augmentations)))
        labels = torch.from_numpy(self.items.labels)[indices].to(self._encoder.device)
        return Batch(views, labels, indices, epoch)

    def in_order(self, batch_size: int, epoch: int = 0) -> Iterator[Batch]:
        """Iterate over all images once, in order."""
        for indices in torch.arange(len(self)).split(batch_size):
            yield self.batch(indices, epoch)

    def centered(self, batch_size: int) -> Iterator[Tensor]:
        """Iterate over all images once, in order, with the preprocessing of the encoder: (b, 3, H, W)."""
        return (batch.pixels for batch in center_batches(self.items, self._encoder, batch_size))

    def pictures(self, indices: Sequence[int]) -> list[Tensor]:
        """Return decoded images, uint8 (3, H, W) at their original sizes, for custom crops."""
        return self._pictures(indices) if self._whole else [to_pixels(self.items.open(i)) for i in indices]

    def _read_all(self, items: Items) -> None:
        reasons: dict[int, str] = {}
        digest = hashlib.sha256()
        labels = items.labels.tolist()
        place = 0
        with closing(
            read_ahead(lambda few: [self._read(items, i) for i in few], range(len(items)), 64, items.size)
        ) as read:
            for i, found in enumerate(track(read, "Decoding", total=len(items), unit="images")):
                if isinstance(found, str):
                    reasons[i] = found
                    continue
                content, pixels = found
                digest.update(content + repr((items.ids[i], labels[i])).encode())
                self._keep(place, pixels)
                place += 1
        self.kept = np.array([i for i in range(len(items)) if i not in reasons], dtype=np.int64)
        refused = [Quarantined(items.ids[i], reason) for i, reason in reasons.items()]
        if not len(self.kept):
            listed = quoted([q.id for q in refused], 3, details=[q.reason for q in refused])
            raise InputError(f"Expected an image that can be decoded, got none: {listed}.")
        self.items = items.select(self.kept)
        self.quarantined = (*items.quarantined, *refused)
        card = (self.augmentations, self.scale, self.seed, self._encoder.preprocessing.card(), digest.hexdigest())
        self.fingerprint = hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()

    def _read(self, items: Items, i: int) -> tuple[bytes, Tensor] | str:
        """Return the hash of the bytes and pixels of one image, or the reason for none."""
        try:
            data = items.read(i)
            return hashlib.sha256(data).digest(), self._pixels(decode(data, target=self._target))
        except UndecodableError as error:
            return str(error)

    def _pixels(self, image: Image.Image) -> Tensor:
        """uint8 (3, H, W): the whole picture where something is cut from it, else the encoder's view of it."""
        return to_pixels(image) if self._whole else _prepared(self._encoder, image)

    def _keep(self, i: int, pixels: Tensor) -> None:
        if pixels.numel() <= self._room:
            self._room -= pixels.numel()
            self._cache[i] = pixels

    def _pictures(self, indices: Sequence[int]) -> list[Tensor]:
        missing = [i for i in indices if i not in self._cache]
        found: dict[int, Tensor] = {}
        if missing:
            decoded = read_ahead(
                lambda few: [self._pixels(self.items.open(i, target=self._target)) for i in few],
                missing,
                len(missing),
                self.items.size,
            )
            found = dict(zip(missing, decoded, strict=True))
        return [self._cache[i] if i in self._cache else found[i] for i in indices]

    def _view(self, pictures: list[Tensor], indices: Tensor, epoch: int, number: int) -> Tensor:
        """(b, 3, size, size) of one kind, ready for the tower."""
        name = self.augmentations[number]
        if self._whole and name in _PREPARED:
            arrays = (pixels.permute(1, 2, 0).numpy() for pixels in pictures)
            pictures = [_prepared(self._encoder, Image.fromarray(array)) for array in arrays]
        draws = [self._draws(epoch, i, number) for i in indices.tolist()]
        if name in ("random_resized_crop", "random_resized_crop_flip", "strong"):
            pictures = [self._rectangle(*pair) for pair in zip(pictures, draws, strict=True)]
        if name in ("flip", "random_resized_crop_flip", "strong"):
            pictures = [_flipped(*pair) for pair in zip(pictures, draws, strict=True)]
        views = torch.stack(pictures)
        if name in ("randaugment", "strong"):
            views = rand_augment(views, draws)
        return normalized(self._encoder, views)

    def _draws(self, epoch: int, i: int, number: int) -> Generator:
        """Return the generator of a view of image ``i``."""
        return generator("view", self.seed, epoch, i, number)

    def _box(self, pixels: Tensor, draws: Generator) -> Tensor:
        """The box (1, 4) of a random rectangle."""
        height, width = pixels.shape[-2:]
        return random_rectangles(height, width, 1, scale=self.scale, generator=draws)

    def _rectangle(self, pixels: Tensor, draws: Generator) -> Tensor:
        return cut(pixels, self._box(pixels, draws), self.size)[0]


def center_batches(
    items: Items, encoder: Encoder, batch_size: int, *, reasons: dict[int, str] | None = None
) -> Iterator[Batch]:
    """Iterate over preprocessed images in order, decoded in threads, without caching."""
    reasons = {} if reasons is None else reasons

    def prepare(few: Sequence[int]) -> list[tuple[int, np.ndarray | str]]:
        found: list[tuple[int, np.ndarray | str]] = []
        for i in few:
            try:
                picture = items.open(i, target=encoder.preprocessing.target)
                found.append((i, encoder.preprocessing.prepare(picture)))
            except UndecodableError as error:
                found.append((i, str(error)))
        return found

    def ready(rows: list[tuple[int, np.ndarray]]) -> Batch:
        indices = torch.tensor([i for i, _ in rows])
        pixels = encoder.preprocessing.inputs([p for _, p in rows], encoder.device, encoder.dtype)["pixel_values"]
        return Batch((pixels,), torch.from_numpy(items.labels)[indices].to(encoder.device), indices, 0)

    square_side(encoder)
    rows: list[tuple[int, np.ndarray]] = []
    with closing(read_ahead(prepare, range(len(items)), 2 * batch_size, items.size)) as prepared:
        for i, pixels in prepared:
            if isinstance(pixels, str):
                reasons[i] = pixels
                continue
            rows.append((i, pixels))
            if len(rows) == batch_size:
                yield ready(rows)
                rows = []
    if rows:
        yield ready(rows)


def normalized(encoder: Encoder, pixels: Tensor) -> Tensor:
    """uint8 (…, 3, H, W) → what the encoder's vision tower takes, in its type on its device."""
    return encoder.preprocessing.normalize(pixels.to(encoder.device)).to(encoder.dtype)


def _prepared(encoder: Encoder, image: Image.Image) -> Tensor:
    return torch.from_numpy(encoder.preprocessing.prepare(image)).permute(2, 0, 1)


def _flipped(view: Tensor, draws: Generator) -> Tensor:
    return view.flip(-1) if torch.rand((), generator=draws) < 0.5 else view
