"""Fit of the map of GPUA for a segmenter, from the patches of photos without labels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from modalign.core.arrays import is_integer
from modalign.core.errors import InputError, argument
from modalign.core.features import Quarantined
from modalign.core.renaming import stacklevel_outside
from modalign.data.items import Items
from modalign.data.names import quoted
from modalign.encoders.base import Encoder
from modalign.linalg.similarity import unit
from modalign.segmentation.class_words import ClassWords
from modalign.segmentation.patch_features import vision_patches
from modalign.segmentation.patch_map import KINDS, AllPatches, PatchMap, Selection, TopPatches, fit_patch_map
from modalign.segmentation.photos import identity, read_photos
from modalign.segmentation.windows import Sliding, cut_windows

if TYPE_CHECKING:
    from modalign.segmentation.segmenter import Segmenter


def learn_map(
    segmenter: Segmenter,
    items: Items,
    sliding: Sliding,
    vfm: Encoder | None,
    *,
    z: str,
    top: int | None,
    parameters: Mapping[str, Any],
) -> PatchMap:
    """The map for a segmenter's features and names; see :meth:`~modalign.Segmenter.fit_map`.

    Memory: the selected patches in half precision, K · top · (D + d) numbers.
    """
    if top is not None and (not is_integer(top) or top < 1):
        raise InputError(f"Expected top as a number of patches per class, or None for all, got {top!r}.")
    categories = category_vectors(segmenter.text, segmenter.words).to(segmenter.encoder.device)
    quarantined: list[Quarantined] = []
    selection: Selection | None = None
    widths = (0, categories.shape[1])
    for _, pixels, _ in read_photos(items, sliding, quarantined, f"Learning a map on {segmenter.encoder.device_name}"):
        size = (pixels.shape[1], pixels.shape[2])
        places, shape = sliding.places(*size), sliding.shape(*size)
        for begin in range(0, len(places), segmenter.batch_size):
            windows = cut_windows(pixels, places[begin : begin + segmenter.batch_size], shape)
            X, Z = patches_of(segmenter, windows, vfm)
            widths = (Z.shape[1], X.shape[1])
            rows = torch.cat([Z.to(X.device), X], dim=1)
            if selection is None:
                selection = AllPatches(categories) if top is None else TopPatches(categories, top, rows.shape[1])
            selection.add(X, rows)
    if selection is None:
        listed = quoted([q.id for q in quarantined], 3, details=[q.reason for q in quarantined])
        raise InputError(f"Expected photos to learn a map from, got none that can be decoded: {listed}.")
    found = fit_patch_map(selection, widths, z, segmenter.names, **parameters)
    found.record.update(
        z=z,
        top=top,
        fit_stride=sliding.stride,
        photos=len(items) - len(quarantined),
        quarantined=[vars(q) for q in quarantined],
        vfm=None if vfm is None else identity(vfm.spec),
    )
    _note(found.record, top)
    return found


def require_map(features: str, z: str, with_vfm: bool) -> None:
    """Raise unless a map of this kind can be learned for these features."""
    if z not in KINDS or with_vfm == (z == "clip"):
        raise InputError(
            f"Expected z as one of {', '.join(KINDS)}, with {argument('vfm')} for all but 'clip', got z={z!r} and "
            f"{'a' if with_vfm else 'no'} vision-only encoder."
        )
    if features in ("window", "proxy"):
        raise InputError(f"{argument('features', features)} has no grid of patches to learn a map from; use another.")


def category_vectors(text: Tensor, words: ClassWords) -> Tensor:
    """(K, d) the mean direction of the names of each class."""
    sums = text.new_zeros(len(words.words), text.shape[1]).index_add_(0, words.owner, text)
    return unit(sums)


def patches_of(segmenter: Segmenter, windows: Tensor, vfm: Encoder | None) -> tuple[Tensor, Tensor]:
    """Unit rows (n, d) of the windows' patches and (n, D) of the same patches by the vision-only encoder.

    Patches without a direction in one of the two are left out.
    """
    X = segmenter.patches(windows).flatten(0, 2)
    if vfm is None:
        return (kept := X[(X != 0).any(dim=1)]), kept[:, :0]
    Z = vision_patches(vfm, windows, segmenter.patches.grid(windows)).flatten(0, 2).to(X.device)
    sound = (X != 0).any(dim=1) & (Z != 0).any(dim=1) & Z.isfinite().all(dim=1)
    return X[sound], Z[sound]


def _note(record: Mapping[str, Any], top: int | None) -> None:
    """Warn of classes that the photos may not show."""
    few = [name for name, rows in record["rows"].items() if top is not None and rows < top]
    if few:
        warnings.warn(
            f"{len(few)} classes have fewer than {top} patches: {quoted(few, 3)}.", stacklevel=stacklevel_outside()
        )
    if record["doubtful"]:
        warnings.warn(
            f"most patches that were chosen for {quoted(record['doubtful'], 3)} are more like another class; the photos"
            " may not show these classes.",
            stacklevel=stacklevel_outside(),
        )
