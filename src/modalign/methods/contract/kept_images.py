"""Output of a frozen vision tower for the images of a training, computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor

from modalign.encoders.towers.vision_tower import VisionOutput
from modalign.tune.batches import MEMORY, ImageBatches

AT_ONCE = 32  # images in one forward pass


class KeptImages:
    """Output of a frozen vision tower for the first view of n images, which is the same in every epoch.

    It is computed at the first call of :meth:`rows`: all images in order, in float32 also where the training is under
    autocast. So it does not depend on the step at which a training begins or goes on. Nothing is kept where it would
    take more than ``memory`` bytes. Memory: n · numbers per image · 4 bytes.

    Parameters
    ----------
    encode : callable
        Pixels (B, 3, H, W) → output.
    data : ImageBatches
        The images, with :attr:`~modalign.tune.batches.ImageBatches.constant` views.
    memory : int, default=MEMORY
        Largest number of bytes.
    """

    def __init__(self, encode: Callable[[Tensor], VisionOutput], data: ImageBatches, memory: int = MEMORY) -> None:
        self._encode, self._data, self._memory = encode, data, memory
        self._output: VisionOutput | None = None
        self._begun = False

    def rows(self, indices: Tensor) -> VisionOutput | None:
        """The output for images ``indices`` (b,), or None if it is not kept."""
        if not self._begun:
            self._begun = True
            self._output = self._all()
        return None if self._output is None else self._output.select(indices.to(self._output.pooled.device))

    @torch.no_grad()
    def _all(self) -> VisionOutput | None:
        kept, n = None, len(self._data)
        for batch in self._data.in_order(AT_ONCE):
            with torch.autocast(batch.pixels.device.type, enabled=False):
                output = self._encode(batch.pixels)
            if kept is None:
                if sum(part[:, 0].nbytes for part in _parts(output)) * n > self._memory:
                    return None
                kept = VisionOutput(_room(output.pooled, n), _room(output.tokens, n), _room(output.classes, n))
            for room, part in zip(_parts(kept), _parts(output), strict=True):
                room[:, batch.indices] = part
        return kept


def _parts(output: VisionOutput) -> list[Tensor]:
    return [part for part in (output.pooled, output.tokens, output.classes) if part is not None]


@overload
def _room(part: Tensor, n: int) -> Tensor: ...
@overload
def _room(part: Tensor | None, n: int) -> Tensor | None: ...
def _room(part: Tensor | None, n: int) -> Tensor | None:
    """An empty tensor like ``part`` for n images in place of its own."""
    return None if part is None else part.new_empty((part.shape[0], n, *part.shape[2:]))
