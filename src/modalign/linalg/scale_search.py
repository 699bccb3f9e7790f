"""The inverse temperature of the highest likelihood, by Newton steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from modalign.linalg.inputs import exact_dtype

_CHUNK = 1 << 16  # numbers held in float64 at a time: they stay in the cache
_PILOT = 1 << 18  # number of logits for the initial estimate


@dataclass(frozen=True)
class ScaledState:
    """Statistics of the softmax of ``beta * z``, with derivatives with respect to beta."""

    nll: float
    slope: float  # of the nll; increases with beta
    curvature: float
    confidence: float  # mean highest probability; increases with beta
    confidence_slope: float

    @classmethod
    def at(cls, z: Tensor, y: Tensor, beta: float) -> ScaledState:
        total = torch.zeros(5, dtype=exact_dtype(z.device), device=z.device)
        rows = max(1, _CHUNK // z.shape[1])
        for part, label in zip(z.split(rows), y.split(rows), strict=True):
            part = part.to(total.dtype)
            part = part - part.amax(dim=1, keepdim=True)  # the highest logit is 0 from here on
            log_p = (beta * part).log_softmax(dim=1)
            p = log_p.exp()
            mean = (p * part).sum(dim=1)
            variance = (p * part.square()).sum(dim=1) - mean.square()
            top = p.amax(dim=1)
            pick = label[:, None]
            total += torch.stack(
                [
                    -log_p.gather(1, pick).sum(),
                    (mean - part.gather(1, pick)[:, 0]).sum(),
                    variance.sum(),
                    top.sum(),
                    -(top * mean).sum(),
                ]
            )
        return cls(*(total / len(z)).tolist())


def best_scale(z: Tensor, y: Tensor, lowest: float) -> float:
    """Return the beta = 1/T of minimal nll within the bounds.

    With many rows, the search starts from an estimate on every k-th row, so that few passes over all rows are needed.
    """
    if ScaledState.at(z, y, lowest).slope >= 0:
        return lowest
    n = len(z)
    sharpest = (z == z.amax(dim=1, keepdim=True)).sum(dim=1).double().reciprocal().mean()  # < 1 with ties on top
    ceiling = float(sharpest) * (n + 1) / (n + 2)
    stride, start = z.numel() // _PILOT, None
    low = high = lowest
    if stride >= 4:
        start = best_scale(z[::stride], y[::stride], lowest)
        high = max(lowest, 1.1 * start)
    while (state := ScaledState.at(z, y, high)).slope < 0 and state.confidence < ceiling:
        low, high = high, 4 * high

    def slope(beta: float) -> tuple[float, float]:
        state = ScaledState.at(z, y, beta)
        return state.slope, state.curvature

    def overconfidence(beta: float) -> tuple[float, float]:
        state = ScaledState.at(z, y, beta)
        return state.confidence - ceiling, state.confidence_slope

    if state.slope >= 0:
        beta = _increasing_root(slope, low, high, start)
        if ScaledState.at(z, y, beta).confidence <= ceiling:
            return beta
    return _increasing_root(overconfidence, low, high, start)


def _increasing_root(
    function: Callable[[float], tuple[float, float]], low: float, high: float, start: float | None
) -> float:
    """Find the zero of an increasing function between two positive ends by Newton steps with bisection."""
    x = start if start is not None and low < start < high else math.sqrt(low * high)
    for _ in range(100):
        value, slope = function(x)
        low, high = (x, high) if value < 0 else (low, x)
        step = x - value / slope if slope > 0 else 0.0
        following = step if low < step < high else math.sqrt(low * high)
        if abs(following - x) <= 1e-9 * x:  # quadratic convergence: this step is exact
            return following
        x = following
    return x
