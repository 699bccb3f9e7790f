"""Divergence of class shares from the uniform distribution."""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor


def divergence_from_uniform(counts: Real[Tensor, "... K"]) -> Float[Tensor, ...]:
    """KL(p ‖ uniform) in nats of histograms or shares (…, K): 0 for equal shares, log K for a single class.

    Computed in float64; 0 for an empty histogram.
    """
    total = counts.double().sum(dim=-1, keepdim=True)
    p = counts.double() / torch.where(total > 0, total, 1.0)
    return torch.xlogy(p, p * counts.shape[-1]).sum(dim=-1).clamp_min(0)
