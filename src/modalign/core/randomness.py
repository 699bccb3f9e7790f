"""Randomness without a state: every draw is a pure function of its keys, so that a run can be taken up anywhere."""

from __future__ import annotations

import hashlib

import torch
from torch import Generator, Tensor


def seed_of(*keys: int | str) -> int:
    """A 63-bit seed from the keys, such as (seed, epoch, image index); other keys give unrelated seeds."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*keys: int | str) -> Generator:
    """A generator on the CPU seeded with :func:`seed_of` the keys, so that one seed gives one draw on every device."""
    return Generator().manual_seed(seed_of(*keys))


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The order (n,) int64 in which the images are seen in an epoch, whatever was drawn before."""
    return torch.randperm(n, generator=generator("order", seed, epoch))
