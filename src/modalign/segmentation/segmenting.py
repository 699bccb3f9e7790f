"""Computation of the results of a segmenter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from modalign.core.errors import InputError
from modalign.core.features import Quarantined
from modalign.core.progress import progress as showing
from modalign.core.renaming import stacklevel_outside
from modalign.data.decoding.decode import full_size
from modalign.data.items import Items
from modalign.data.names import quoted
from modalign.segmentation.patch_features import vision_patches
from modalign.segmentation.photos import pixels_of, read_photos
from modalign.segmentation.pixel_labels import decide, probabilities
from modalign.segmentation.segmented import Segmentation
from modalign.segmentation.windows import average_windows, cut_windows

if TYPE_CHECKING:
    from modalign.segmentation.segmenter import Segmenter


def results(
    segmenter: Segmenter, items: Items, quarantined: list[Quarantined], progress: bool | None
) -> Iterator[Segmentation]:
    """Yield a result per photo; photos that cannot be used are appended to ``quarantined``.

    Raises
    ------
    InputError
        At the end, if no photo could be decoded.
    """
    settings, lost, found = segmenter.settings, segmenter.patches.lost, 0
    work = f"Segmenting on {segmenter.encoder.device_name}"
    with showing(progress) if progress is not None else nullcontext():
        for i, pixels, size in read_photos(items, segmenter.sliding, quarantined, work):
            canvas = canvas_of(segmenter, pixels)
            decided = decide(canvas, segmenter.words.owner.to(canvas.device), size, segmenter.decision)
            shares = (decided.counts / decided.labels.size).tolist()
            found += 1
            yield Segmentation(
                file=items.ids[i],
                labels=decided.labels,
                names=segmenter.names,
                confidence=decided.confidence,
                shares=dict(zip(segmenter.names, shares, strict=True)),
                none_share=1 - int(decided.counts.sum()) / decided.labels.size,
                settings=settings,
                _picture=partial(pixels_of, items, i),
                _scores=partial(probabilities_of, segmenter, items, i),
            )
    if segmenter.patches.lost > lost:
        warnings.warn(
            f"{segmenter.patches.lost - lost} patches had no direction and have cosine 0.",
            stacklevel=stacklevel_outside(),
        )
    if not found:
        listed = quoted([q.id for q in quarantined], 3, details=[q.reason for q in quarantined])
        raise InputError(f"Expected an image that can be decoded, got none: {listed}.")


def canvas_of(segmenter: Segmenter, pixels: Tensor) -> Tensor:
    """(M, h, w) cosines of the names at the pixels of a resized photo (3, h, w), averaged over its windows."""
    size = (pixels.shape[1], pixels.shape[2])
    places, shape = segmenter.sliding.places(*size), segmenter.sliding.shape(*size)
    text = segmenter.text.to(segmenter.encoder.device)
    maps = []
    for begin in range(0, len(places), segmenter.batch_size):
        windows = cut_windows(pixels, places[begin : begin + segmenter.batch_size], shape)
        maps.append((features_of(segmenter, windows) @ text.T).permute(0, 3, 1, 2))
    return average_windows(torch.cat(maps), places, shape, size)


def features_of(segmenter: Segmenter, windows: Tensor) -> Tensor:
    """(B, rows, columns, d) unit features of windows in the space of the names, through the map if there is one."""
    X, vfm = segmenter.patches(windows), segmenter.map_vfm
    if segmenter.map is None:
        return X
    return segmenter.map(X, None if vfm is None else vision_patches(vfm, windows, segmenter.patches.grid(windows)))


def probabilities_of(segmenter: Segmenter, items: Items, i: int) -> np.ndarray:
    """(K, H, W) float32 probabilities of the classes for one photo, before thresholds."""
    picture = items.open(i)
    canvas = canvas_of(segmenter, segmenter.sliding.prepare(picture))
    width, height = full_size(picture)
    return probabilities(canvas, segmenter.words.owner.to(canvas.device), (height, width), segmenter.decision)
