"""How far class shares are from uniform."""

from __future__ import annotations

import torch
from torch import Tensor


def divergence_from_uniform(counts: Tensor) -> Tensor:
    """KL(p ‖ uniform) in nats of histograms or shares (…, K): 0 where all classes are even, log K where there is one.

    In float64; 0 where there is nothing at all.
    """
    total = counts.double().sum(dim=-1, keepdim=True)
    p = counts.double() / torch.where(total > 0, total, 1.0)
    return torch.xlogy(p, p * counts.shape[-1]).sum(dim=-1).clamp_min(0)
