"""Segmentation of photos into a folder of masks, with resumption of an earlier run with the same settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from modalign.core.card_names import SEGMENTER, holds
from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import Quarantined
from modalign.core.files import make_folder, sole_use
from modalign.data.copies import content_hash
from modalign.data.decoding.decode import MAX_PIXELS
from modalign.data.itemset import Items
from modalign.segmentation.mask_folder import LOCK, MaskFolder, check_mask_folder, document_head
from modalign.segmentation.patch_map import TOP
from modalign.segmentation.photos import content_hashes, open_encoder
from modalign.segmentation.segmenter_files import load_segmenter

if TYPE_CHECKING:
    from modalign.segmentation.segmenter import Segmenter


@dataclass(frozen=True, eq=False, repr=False)
class LimitedItems(Items):
    """Images of which those with more than ``max_pixels`` pixels count as not decodable."""

    max_pixels: int = MAX_PIXELS

    def open(self, i: int, *, target: Callable[[int, int], tuple[int, int]] | None = None) -> Image.Image:
        """Image ``i`` decoded as RGB; :class:`UndecodableError` with a reason if that cannot be done."""
        picture = super().open(i, target=target)
        if picture.width * picture.height > self.max_pixels:
            raise UndecodableError(
                f"too large: {picture.width} × {picture.height} pixels, the limit is {self.max_pixels:,}"
            )
        return picture


def limit_pixels(items: Items, max_pixels: int) -> Items:
    """The same images, of which those with more pixels are left out when they are opened."""
    return LimitedItems(**vars(items), max_pixels=max_pixels)


@dataclass(frozen=True)
class MaskRun:
    """Result of a run.

    Attributes
    ----------
    document : mapping
        The content of ``masks.json``.
    n_new, n_kept : int
        Photos that were segmented now, and by an earlier run.
    seconds : float
        Time of this run without loading the encoder.
    """

    document: Mapping[str, Any]
    n_new: int
    n_kept: int
    seconds: float

    @property
    def quarantined(self) -> list[dict[str, str]]:
        """Files that could not be used, with reasons."""
        return list(self.document["quarantined"])


def segment_to_folder(
    segmenter: Segmenter, items: Items, folder: str | Path, *, transductive: bool = False, progress: bool | None = None
) -> MaskRun:
    """Write the masks of photos; those that the folder has with the same settings and bytes are not computed again.

    Every photo gets ``NAME.png``, whose pixels are class numbers, and ``NAME.overlay.png``; ``masks.json`` has run
    lengths, shares and confidence of all. Each file is there whole or not at all.

    Parameters
    ----------
    segmenter : Segmenter
        The segmenter.
    items : Items
        The photos.
    folder : str or Path
        New, empty, or of an earlier run.
    transductive, progress : bool, default=False
        See :meth:`~modalign.Segmenter.segment`.

    Raises
    ------
    InputError
        The folder cannot be written, holds other files, or another run writes into it.
    """
    started = time.perf_counter()
    check_mask_folder(folder)
    make_folder(folder)
    with sole_use(Path(folder) / LOCK, "another run writes masks"):
        return _write_masks(segmenter, items, folder, transductive, progress, started)


def _write_masks(
    segmenter: Segmenter, items: Items, folder: str | Path, transductive: bool, progress: bool | None, started: float
) -> MaskRun:
    words = segmenter.words
    head = document_head(segmenter.settings, words.names, words.words, words.background)
    out = MaskFolder(folder, head, items.ids)
    content = {file: content_hash(items, i) for i, file in enumerate(items.ids)}
    rest = [i for i, file in enumerate(items.ids) if not out.keep(file, content[file])]
    refused = {q.id: q for q in items.quarantined}
    n_new = 0
    if rest:
        results = segmenter.segment(items.select(rest), transductive=transductive, progress=progress)
        try:
            for result in results:
                out.add(result, content[result.file])
                n_new += 1
        except InputError:  # also raised where no photo can be decoded, which is no error if others are finished
            broken = {q.id for q in results.quarantined}
            if len(rest) == len(items) or not broken.issuperset(items.ids[i] for i in rest):
                raise
        refused |= {q.id: q for q in results.quarantined}
    document = out.close(items.ids, sorted(refused.values(), key=_id))
    return MaskRun(document, n_new, len(items) - len(rest), time.perf_counter() - started)


def fit_map_once(segmenter: Segmenter, photos: Items, vfm: str, folder: str | Path, *, device: str = "auto") -> None:
    """Give a segmenter the map of GPUA and save it, or the map that an earlier call with the same input saved.

    Parameters
    ----------
    segmenter : Segmenter
        The segmenter; changed in place.
    photos : Items
        Photos that the map is learned from.
    vfm : str
        The vision-only encoder.
    folder : str or Path
        Of the saved segmenter.
    device : str, default="auto"
        Device of the vision-only encoder.
    """
    other = open_encoder(vfm, device)
    saved = None
    if holds(folder, SEGMENTER):
        with suppress(InputError):  # damaged, or of an encoder that is not here: learned again
            saved = load_segmenter(folder, encoder=segmenter.encoder)
    if saved is not None and saved.map is not None and saved.map_vfm is not None:
        same = saved.map.kind == "vfm+clip" and saved.map_vfm.spec.fingerprint == other.spec.fingerprint
        alike = _without_map(saved) == _without_map(segmenter) and saved.map.record.get("top") == TOP
        if same and alike and np.array_equal(saved.fitted_on, np.unique(content_hashes(photos))):
            segmenter.map, segmenter.map_vfm, segmenter.fitted_on = saved.map, other, saved.fitted_on
            return
    segmenter.fit_map(photos, vfm=other).save(folder)


def _without_map(segmenter: Segmenter) -> dict[str, Any]:
    """The settings that a map is learned with."""
    return {key: value for key, value in segmenter.settings.items() if key != "map"}


def _id(entry: Quarantined) -> str:
    return entry.id
