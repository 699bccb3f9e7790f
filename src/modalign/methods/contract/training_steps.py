"""Seeds, batch orders and evaluation steps of trained methods on vectors."""

from __future__ import annotations

import secrets

import torch
from torch import Tensor

BLOCK = 64  # steps whose batches are gathered at once


def seeded(random_state: int | None) -> torch.Generator:
    """Return a CPU generator, whose draws are the same for every device; None draws the seed."""
    seed = secrets.randbits(32) if random_state is None else int(random_state)
    return torch.Generator().manual_seed(seed)


def checkpoints(steps: int, count: int) -> set[int]:
    """Return about ``count`` numbers of steps to evaluate after, in a geometric sequence up to ``steps``."""
    if steps < 1:
        return set()
    return {round(steps ** (i / max(1, count - 1))) for i in range(count)} | {steps}


def batch_order(n: int, batch_size: int, steps: int, generator: torch.Generator) -> Tensor:
    """Return row indices (steps, batch_size), from consecutive random permutations of the n rows."""
    wanted = steps * batch_size
    epochs = [torch.randperm(n, generator=generator) for _ in range(-(-wanted // n))]
    return torch.cat([torch.empty(0, dtype=torch.int64), *epochs])[:wanted].view(steps, batch_size)
