"""The range of random seeds, and the check of arguments that are seeds."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from modalign.core.errors import InputError, argument

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
