"""Validation and conversion of tensor arguments.

Half precision and integers are converted to float32; float32 and float64 are kept.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from modalign.core.arrays import LARGE
from modalign.core.errors import InputError

SHORT, LONG = 1e-9, 1e9  # lengths of rows whose squares neither vanish nor overflow in float32


def float_tensor(tensor: Tensor, name: str, *, ndim: int | None = None, finite: bool = True) -> Tensor:
    """Convert ``tensor`` to float32 or float64 after checking its number of dimensions and for NaN and infinity."""
    if not isinstance(tensor, Tensor):
        raise InputError(f"Expected {name} to be a torch tensor, got {type(tensor).__name__}; use torch.as_tensor.")
    if ndim is not None and tensor.ndim != ndim:
        raise InputError(f"Expected {name} with {ndim} dimensions, got shape {tuple(tensor.shape)}.")
    if tensor.is_complex():
        raise InputError(f"Expected real numbers in {name}, got {tensor.dtype}.")
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    if finite:
        require_finite(tensor, name)
    return tensor


def traced() -> bool:
    """Whether a graph is being recorded for export, in which no step may depend on the values of a tensor."""
    return torch.compiler.is_exporting()


def require_finite(tensor: Tensor, name: str) -> None:
    """Raise unless all numbers are finite; in a recorded graph nothing is checked."""
    if traced():
        return
    if tensor.numel() and not bool(torch.isfinite(tensor.detach().sum()) or torch.isfinite(tensor.detach()).all()):
        raise InputError(f"Expected finite numbers in {name}, got NaN or infinity; check where they come from.")


def ordinary(lengths: Tensor) -> bool:
    """Return whether all row lengths are finite, nonzero, and can be squared in float32 without loss."""
    return bool(((lengths > SHORT) & (lengths < LONG)).all())


def power_of_two(X: Tensor) -> Tensor:
    """Return for each row the power of two that scales its largest entry into [1, 2), (…, 1); the division is exact.

    It is 1 for a zero row, and the smallest normal number for a subnormal row.
    """
    limits = torch.finfo(X.dtype)
    lowest, highest = (math.frexp(value)[1] - 1 for value in (limits.tiny, limits.max))
    peak = _largest(X)
    return peak.log2().floor().clamp(lowest, highest).exp2().masked_fill(peak == 0, 1)


def single(X: Tensor) -> Tensor:
    """Convert ``X`` (…, d) to float32 and preserve the direction of every row.

    Rows of float64 outside the range or precision of float32 are divided by a power of two first. All other rows keep
    their length.
    """
    if X.dtype != torch.float64 or not X.numel():
        return X.float()
    peak = _largest(X)
    outside = (peak > LARGE) | (peak < 1 / LARGE)
    return (torch.where(outside, X / power_of_two(X), X) if bool(outside.any()) else X).float()


def as_single(array: np.ndarray) -> Tensor:
    """Copy an array of any real dtype into a float32 tensor with the directions of its rows, as :func:`single`."""
    return single(torch.from_numpy(np.array(array)))


def _largest(X: Tensor) -> Tensor:
    """Return the largest absolute entry of each row, (…, 1), without a copy of ``X``."""
    X = X.detach()
    return torch.maximum(X.amax(dim=-1, keepdim=True), -X.amin(dim=-1, keepdim=True))


def paired_rows(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Return two finite matrices with equal numbers of rows in their common dtype."""
    X, Y = float_tensor(X, "X", ndim=2), float_tensor(Y, "Y", ndim=2)
    if len(X) != len(Y) or len(X) == 0:
        raise InputError(f"Expected X and Y with the same rows, at least one; got {len(X)} and {len(Y)}.")
    dtype = torch.promote_types(X.dtype, Y.dtype)
    return X.to(dtype), Y.to(dtype)


def class_indices(y: Tensor, n: int, n_classes: int, *, lowest: int = 0) -> Tensor:
    """Return ``y`` as n class indices in ``lowest``…n_classes − 1."""
    if not isinstance(y, Tensor) or y.shape != (n,) or y.is_floating_point() or y.is_complex():
        got = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise InputError(f"Expected a tensor of {n} integer labels, one per row, got {got}.")
    if n and not lowest <= int(y.min()) <= int(y.max()) < n_classes:
        raise InputError(f"Expected labels in {lowest}…{n_classes - 1}, got {int(y.min())}…{int(y.max())}.")
    return y.long()


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype for accumulation: float64 if the device supports it."""
    return torch.float32 if device.type == "mps" else torch.float64
