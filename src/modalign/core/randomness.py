"""Stateless random numbers: every draw is a pure function of its keys, so a run can be resumed anywhere."""

from __future__ import annotations

import hashlib

import torch
from torch import Generator, Tensor


def seed_of(*keys: int | str) -> int:
    """Return a 63-bit seed from keys such as (seed, epoch, image index); different keys give independent seeds."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*keys: int | str) -> Generator:
    """Return a CPU generator seeded with :func:`seed_of`; the draws are the same on every device."""
    return Generator().manual_seed(seed_of(*keys))


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the images in an epoch, (n,) int64, independent of earlier draws."""
    return torch.randperm(n, generator=generator("order", seed, epoch))
