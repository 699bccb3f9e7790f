"""Preparation of photos: prefetching, resizing, recognition by their bytes; and loading of encoders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from modalign.core.encoder_spec import EncoderSpec
from modalign.core.errors import InputError, UndecodableError, argument
from modalign.core.features import Quarantined
from modalign.core.progress import track
from modalign.data.copies import content_hash
from modalign.data.decoding.decode import full_size
from modalign.data.items import Items
from modalign.encoders import load_encoder
from modalign.encoders.base import Encoder
from modalign.encoders.features.ahead import read_ahead
from modalign.segmentation.windows import Sliding

_AHEAD = 8  # photos that are decoded before they are needed

Photo = tuple[int, Tensor, tuple[int, int]]
"""Number among the items, resized uint8 pixels (3, h, w), and (height, width) of the photo."""


def read_photos(items: Items, sliding: Sliding, quarantined: list[Quarantined], work: str) -> Iterator[Photo]:
    """The photos in order, decoded and resized by threads that run ahead; what cannot be used is quarantined.

    Parameters
    ----------
    items : Items
        The photos.
    sliding : Sliding
        How they are resized.
    quarantined : list of Quarantined
        Is appended to.
    work : str
        Label of the progress bar.
    """

    def prepare(some: Sequence[int]) -> list[tuple[int, Tensor, tuple[int, int], str]]:
        return [_prepared(items, i, sliding) for i in some]

    with closing(read_ahead(prepare, range(len(items)), _AHEAD, items.size)) as prepared:
        for i, pixels, size, reason in track(prepared, work, total=len(items), unit="photos"):
            if reason:
                quarantined.append(Quarantined(items.ids[i], reason))
            else:
                yield i, pixels, size


def _prepared(items: Items, i: int, sliding: Sliding) -> tuple[int, Tensor, tuple[int, int], str]:
    try:
        picture = items.open(i)
        width, height = full_size(picture)
        return i, sliding.prepare(picture), (height, width), ""
    except UndecodableError as error:
        return i, torch.empty(0), (0, 0), str(error)
    except MemoryError:
        return i, torch.empty(0), (0, 0), "not enough memory to resize it at this moment"


def pixels_of(items: Items, i: int) -> np.ndarray:
    """(H, W, 3) uint8 of one photo; of a JPEG that is decoded at reduced size, enlarged to its own."""
    picture = items.open(i)
    whole = full_size(picture)
    return np.array(picture if picture.size == whole else picture.resize(whole, Image.Resampling.BILINEAR))


def content_hashes(items: Items) -> np.ndarray:
    """(n,) uint64 that identify the bytes of photos; 0 for one that cannot be read."""
    return np.array([int(content_hash(items, i) or "0", 16) for i in range(len(items))], dtype=np.uint64)


def require_apart(items: Items, fitted_on: np.ndarray) -> None:
    """Raise if some photos are among those that a map is learned from.

    Parameters
    ----------
    items : Items
        The photos to be segmented.
    fitted_on : ndarray
        :func:`content_hashes` of the photos that the map is learned from.
    """
    known = np.flatnonzero(np.isin(content_hashes(items), fitted_on))
    if len(known):
        raise InputError(
            f"Expected photos that the map was not fitted on, got {len(known)} of {len(items)} that it was, such as "
            f"'{items.ids[known[0]]}'; give {argument('transductive', 'True')} if that is meant."
        )


def open_encoder(encoder: str | Path | Encoder, device: str) -> Encoder:
    """One encoder by its name or as it is."""
    opened = load_encoder(encoder, device=device) if isinstance(encoder, (str, os.PathLike)) else encoder
    if not isinstance(opened, Encoder):
        got = f"'{opened.name}'" if hasattr(opened, "name") else type(opened).__name__
        raise InputError(f"Expected {argument('encoder')} as one encoder, its name or its folder, got {got}.")
    return opened


def identity(spec: EncoderSpec) -> dict[str, str]:
    """Name and fingerprint of an encoder, for a record."""
    return {"name": spec.name, "fingerprint": spec.fingerprint}


def digest(array: Tensor) -> str:
    """SHA-256 of the numbers of a float32 tensor."""
    return hashlib.sha256(array.detach().cpu().contiguous().numpy().astype("<f4").tobytes()).hexdigest()
