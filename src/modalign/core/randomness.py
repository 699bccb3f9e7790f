"""Random seeds, and stateless random numbers: a draw is a pure function of its keys, so a run can be resumed anywhere.

The command line imports this module at its start, so torch is imported where it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING

from modalign.core.errors import InputError, argument

if TYPE_CHECKING:
    from torch import Generator, Tensor

LARGEST_SEED = 2**32 - 1  # of NumPy's RandomState, which scikit-learn uses


def require_seed(value: object, name: str = "random_state") -> None:
    """Raise unless the argument ``name`` is an integer from 0 to 2³² − 1, or None."""
    if value is not None and not _is_seed(value):
        raise InputError(f"Expected {argument(name)} as an integer from 0 to {LARGEST_SEED}, got {value!r}.")


def require_seeds(values: Sequence[object]) -> None:
    """Raise unless the argument ``seeds`` holds different integers from 0 to 2³² − 1, at least one."""
    if not values or len(set(values)) < len(values) or not all(map(_is_seed, values)):
        raise InputError(
            f"Expected {argument('seeds')} as different integers from 0 to {LARGEST_SEED}, at least one, got "
            f"{list(values)}."
        )


def _is_seed(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) <= LARGEST_SEED


def seed_of(*keys: int | str) -> int:
    """Return a 63-bit seed from keys such as (seed, epoch, image index); different keys give independent seeds."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*keys: int | str) -> Generator:
    """Return a CPU generator seeded with :func:`seed_of`; the draws are the same on every device."""
    from torch import Generator

    return Generator().manual_seed(seed_of(*keys))


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the images in an epoch, (n,) int64, independent of earlier draws."""
    import torch

    return torch.randperm(n, generator=generator("order", seed, epoch))
