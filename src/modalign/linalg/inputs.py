"""Reading arguments: what every function of this package asks of its tensors, said once.

Half precision and integers are computed and returned in float32; float32 and float64 stay what they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modalign.core.arrays import LARGE
from modalign.core.errors import InputError

SHORT, LONG = 1e-9, 1e9  # lengths of rows whose squares neither vanish nor overflow in float32


def real(tensor: Tensor, name: str, *, ndim: int | None = None, finite: bool = True) -> Tensor:
    """``tensor`` in float32 or float64, checked for its number of dimensions and for NaN and infinity."""
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
    """Raise unless all numbers are finite; in a recorded graph nothing is looked at."""
    if traced():
        return
    if tensor.numel() and not bool(torch.isfinite(tensor.detach().sum()) or torch.isfinite(tensor.detach()).all()):
        raise InputError(f"Expected finite numbers in {name}, got NaN or infinity; check where they come from.")


def ordinary(lengths: Tensor) -> bool:
    """Whether all rows of these lengths are finite, not zero, and squared without loss in float32."""
    return bool(((lengths > SHORT) & (lengths < LONG)).all())


def power_of_two(X: Tensor) -> Tensor:
    """(…, 1) for every row the power of two that brings its largest entry into [1, 2); dividing by it is exact.

    It is 1 for a zero row. A subnormal row gets the smallest normal number and stays below 1.
    """
    limits = torch.finfo(X.dtype)
    lowest, highest = (math.frexp(value)[1] - 1 for value in (limits.tiny, limits.max))
    peak = _largest(X)
    return peak.log2().floor().clamp(lowest, highest).exp2().masked_fill(peak == 0, 1)


def single(X: Tensor) -> Tensor:
    """``X`` (…, d) in float32, where every row keeps its direction.

    A row of float64 that float32 would make infinite, zero or coarse is divided by a power of two first. All other
    rows keep their length.
    """
    if X.dtype != torch.float64 or not X.numel():
        return X.float()
    peak = _largest(X)
    outside = (peak > LARGE) | (peak < 1 / LARGE)
    return (torch.where(outside, X / power_of_two(X), X) if bool(outside.any()) else X).float()


def _largest(X: Tensor) -> Tensor:
    """(…, 1) the largest absolute entry of every row, without a copy of the size of ``X``."""
    X = X.detach()
    return torch.maximum(X.amax(dim=-1, keepdim=True), -X.amin(dim=-1, keepdim=True))


def pair(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Two finite matrices with the same rows, in their common type."""
    X, Y = real(X, "X", ndim=2), real(Y, "Y", ndim=2)
    if len(X) != len(Y) or len(X) == 0:
        raise InputError(f"Expected X and Y with the same rows, at least one; got {len(X)} and {len(Y)}.")
    dtype = torch.promote_types(X.dtype, Y.dtype)
    return X.to(dtype), Y.to(dtype)


def class_indices(y: Tensor, n: int, n_classes: int, *, lowest: int = 0) -> Tensor:
    """``y`` as n class indices in ``lowest``…n_classes − 1."""
    if not isinstance(y, Tensor) or y.shape != (n,) or y.is_floating_point() or y.is_complex():
        got = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise InputError(f"Expected a tensor of {n} integer labels, one per row, got {got}.")
    if n and not lowest <= int(y.min()) <= int(y.max()) < n_classes:
        raise InputError(f"Expected labels in {lowest}…{n_classes - 1}, got {int(y.min())}…{int(y.max())}.")
    return y.long()


def wide(device: torch.device) -> torch.dtype:
    """The type for sums that must not lose digits: float64 wherever the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64
