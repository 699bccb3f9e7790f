"""Conversion of input arrays to float32 tensors with finite rows."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modalign.core.arrays import RESHAPE, as_numpy, real_array, require_strided
from modalign.core.errors import InputError, argument
from modalign.core.features import ClassText, Features
from modalign.core.renaming import stacklevel_outside
from modalign.linalg.inputs import float_tensor, ordinary, single

BLOCK = 2**22  # numbers of a memory map that are checked together


def read_rows(
    array: Any, name: str, ndim: tuple[int, ...] = (2,), *, mapped: bool = False, zeros: bool = False
) -> Tensor:
    """Vectors along the last axis as a float32 tensor on their own device.

    Rows of float64 outside the range of float32 are scaled by a power of two; methods use directions only.

    Parameters
    ----------
    array : object
        An array, a tensor, or :class:`Features` or :class:`ClassText`, whose vectors are taken.
    name : str
        The argument, for messages.
    ndim : tuple of int
        Allowed numbers of dimensions.
    mapped : bool, default=False
        Keep a memory-mapped array on disk, in its dtype.
    zeros : bool, default=False
        Accept zero rows as padding of sentences or crops. Otherwise zero rows, whose cosines are all 0, cause a
        warning.

    Raises
    ------
    InputError
        The entries are not finite real numbers, or the shape is wrong.
    """
    array = array.vectors if isinstance(array, (Features, ClassText)) else array
    if isinstance(array, (str, os.PathLike)):
        raise InputError(
            f"Expected {name} as vectors, got the path '{array}'; in Python: load_encoder(…).embed_images(path)."
        )
    if isinstance(array, Tensor):
        require_strided(array, name)
        if array.dtype == torch.bool:
            raise InputError(f"Expected {name} of real numbers, got torch.bool; convert the entries to numbers.")
    if mapped and isinstance(array, Tensor) and array.dtype in (torch.float16, torch.bfloat16):
        tensor = array.detach()
    elif isinstance(array, Tensor):
        tensor = single(float_tensor(array.detach(), name, finite=False))
    else:
        array = real_array(array, name)
        if mapped and isinstance(array, np.memmap):
            tensor = _shared(array)
        else:
            wide = array.dtype == np.float64
            tensor = single(_shared(array)) if wide else torch.from_numpy(np.array(array, dtype=np.float32))
    wanted = " or ".join(f"{d}-dimensional" for d in ndim)
    if tensor.ndim not in ndim:
        raise InputError(f"Expected {name} to be a {wanted} array, got shape {tuple(tensor.shape)}. {RESHAPE}")
    if 0 in tensor.shape:
        nothing = f"{tensor.shape[-1]} feature(s)" if len(tensor) else "0 rows"
        raise InputError(
            f"Expected {name} to be a non-empty {wanted} array, got {nothing} (shape={tuple(tensor.shape)}) while a "
            "minimum of 1 is required."
        )
    _check(tensor, name, zeros=zeros)
    return tensor


def read_parts(tokens: Any, vectors: Tensor) -> Tensor:
    """Read crops or patches (n, N, d) of the images, padded with zero rows."""
    parts = read_rows(tokens, "tokens", (3,), zeros=True).to(vectors.device)
    if len(parts) != len(vectors) or parts.shape[2] != vectors.shape[1]:
        raise InputError(
            f"Expected tokens of shape ({len(vectors)}, N, {vectors.shape[1]}), crops or patches of the images in "
            f"the space of their vectors, got {tuple(parts.shape)}."
        )
    return parts


def read_text_vectors(text: Any, width: int, name: str, *, anchored: bool) -> Tensor:
    """Read class-text vectors (C, T, d), padded with zero rows.

    Parameters
    ----------
    text : object
        (C, d), (C, T, d) or :class:`ClassText`.
    width : int
        Dimension d of the images in the space of the text.
    name : str
        Name of the images, for messages.
    anchored : bool
        Whether ``clip_features`` cannot resolve a difference of dimensions.

    Raises
    ------
    InputError
        The dimension differs, there are fewer than two classes, or a class has no sentence.
    """
    tensor = read_rows(text, "text", (2, 3), zeros=True)
    tensor = tensor[:, None] if tensor.ndim == 2 else tensor
    if tensor.shape[2] != width:
        advice = "embed both with one vision-language encoder."
        if not anchored:
            same = "the same images in the space of the text"
            advice = f"if X is of another encoder, give {argument('clip_features')}, {same}."
        raise InputError(f"Expected text vectors of the width of {name} ({width}), got {tensor.shape[2]}; {advice}")
    if len(tensor) < 2:
        raise InputError(f"Expected text of at least 2 classes, got {len(tensor)}; one class leaves nothing to decide.")
    if bool((tensor == 0).all(dim=2).all(dim=1).any()):
        raise InputError("Expected at least one sentence per class, got a class whose text vectors are all zero.")
    return tensor


def read_weights(weights: Any, known: np.ndarray) -> np.ndarray | None:
    """Read one weight per image; return those of the images marked in ``known``, or None without weights.

    Raises
    ------
    InputError
        Their number differs, one is negative or not finite, or all are zero.
    """
    if weights is None:
        return None
    found = as_numpy(weights, "sample_weight")
    found = real_array(found.astype(np.float64) if found.dtype.kind == "b" else found, "sample_weight")  # or a mask
    if found.shape != known.shape:
        raise InputError(f"Expected one weight per row of X ({len(known)}), got weights of shape {found.shape}.")
    found = found[known]
    if not np.isfinite(found).all() or found.min() < 0 or not found.any():
        raise InputError("Expected weights of at least 0, finite and not all 0, got others.")
    return found


def _check(X: Tensor, name: str, *, zeros: bool) -> None:
    step, empty = max(1, BLOCK // X[0].numel()), []
    for start in range(0, len(X), step):
        part = X[start : start + step]
        part = part if part.dtype == torch.float64 else part.float()
        if ordinary(torch.linalg.vector_norm(part, dim=-1)):
            continue
        if not bool(torch.isfinite(part).all()):
            raise InputError(f"Expected finite numbers in {name}, got NaN or infinity; check the images it came from.")
        if not zeros:
            empty += (start + (part == 0).all(dim=-1).nonzero()[:, 0]).tolist()
    if empty:
        rows = "1 row" if len(empty) == 1 else f"{len(empty)} rows"
        warnings.warn(
            f"{rows} of {name} with zeros only, first row {empty[0]} (counted from 0): such a vector has no "
            "direction. Leave out images that could not be embedded.",
            stacklevel=stacklevel_outside(),
        )


def _shared(array: np.ndarray) -> Tensor:
    """A tensor over the memory of ``array``."""
    with warnings.catch_warnings():  # torch warns that a read-only array must not be written to; nothing here does
        warnings.simplefilter("ignore", UserWarning)
        forward = all(stride >= 0 for stride in array.strides)  # torch has no negative strides
        return torch.from_numpy(np.asarray(array) if forward else np.ascontiguousarray(array))
