"""Assertions that fail with one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def expect(condition: object, sentence: str) -> None:
    """Raise an AssertionError with the sentence unless the condition holds."""
    if not condition:
        raise AssertionError(sentence)


def expect_equal(found: ArrayLike, wanted: ArrayLike, sentence: str) -> None:
    """Raise unless two arrays are equal in shape and in every bit."""
    expect(np.array_equal(found, wanted), sentence)


def expect_close(found: ArrayLike, wanted: ArrayLike, tolerance: float, sentence: str) -> None:
    """Raise unless two arrays have one shape and differ nowhere by more than ``tolerance``."""
    found, wanted = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    expect(found.shape == wanted.shape, f"{sentence} The shapes are {found.shape} and {wanted.shape}.")
    largest = np.abs(found - wanted).max(initial=0.0)
    expect(largest <= tolerance, f"{sentence} The largest difference is {largest:.3g}, allowed are {tolerance:.3g}.")


def expect_refusal(kind: type[Exception], pattern: str, call: Callable[[], Any], what: str) -> None:
    """Raise unless the call raises an error of that kind whose message has the pattern."""
    try:
        call()
    except kind as error:
        expect(re.search(pattern, str(error)), f"Expected an error for {what} with '{pattern}', got: {error}")
    except Exception as error:
        raise AssertionError(f"Expected {kind.__name__} for {what}, got {type(error).__name__}: {error}") from error
    else:
        raise AssertionError(f"Expected {kind.__name__} for {what}, got a result.")
