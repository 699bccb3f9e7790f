"""Hyper-parameters: types and ranges are enforced in one sentence, meanings are read from the docstring."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pytest

from modalign.core.errors import InputError, UnknownNameError
from modalign.methods import METHODS, method_class
from modalign.methods.contract.parameters import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    Range,
    Seed,
    check_parameters,
    format_annotation,
    parameters,
)


class Sample:
    """Not a method.

    Parameters
    ----------
    count : int, default=3
        How many
        of them.
    share : a part.
    rate : float or "auto", default="auto"
        Of change, or
        ``"auto"``.
    seed : int, default=None
        Of the draw.
    flag, way : bool and {"left", "right"}
        How.
    low, high : float, default=0.0 and 1.0
        Least value; y, largest
        value.
    free
        Anything.

    Attributes
    ----------
    nothing_ : not a parameter.
    """

    def __init__(
        self,
        *,
        count: Count = 3,
        share: Fraction = 0.5,
        rate: Positive | Literal["auto"] = "auto",
        seed: Seed = None,
        flag: bool = False,
        way: Literal["left", "right"] = "left",
        low: Fraction = 0.0,
        high: Fraction = 1.0,
        free: Any = None,
    ) -> None:
        self.__dict__.update({k: v for k, v in locals().items() if k != "self"})


def sample(**values: object) -> Sample:
    made = Sample()
    vars(made).update(values)
    return made


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"count": np.int64(7), "share": np.float32(1.0), "flag": np.bool_(True)},
        {"share": 0, "rate": 1e-12, "seed": 0},
        {"share": 1, "rate": 10, "seed": 2**32 - 1},
        {"way": "right", "free": object()},
    ],
)
def test_what_fits_passes(values):
    check_parameters(sample(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, r"Sample\(count=…\): expected int in \[1, inf\), got 0\."),
        ({"count": 2.0}, "expected int in"),
        ({"count": True}, "expected int in"),
        ({"count": None}, "expected int in"),
        ({"share": 1.01}, r"expected float in \[0, 1\], got 1\.01"),
        ({"share": float("nan")}, r"expected float in \[0, 1\], got nan"),
        ({"share": "0.5"}, "expected float"),
        ({"rate": 0}, r"expected float in \(0, inf\) or 'auto', got 0"),
        ({"rate": "automatic"}, "'auto'"),
        ({"seed": -1}, r"expected int in \[0, 4294967295\] or None, got -1"),
        ({"seed": 1.5}, "or None"),
        ({"flag": 1}, "expected bool, got 1"),
        ({"way": 3}, "expected 'left' or 'right', got 3"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(InputError, match=message):
        check_parameters(sample(**values))


def test_a_misspelt_choice_is_corrected():
    with pytest.raises(UnknownNameError, match="did you mean 'right'"):
        check_parameters(sample(way="rigth"))


def test_ranges():
    assert 0 in Range(0)
    assert 0 not in Range(0, strict_low=True)
    assert 1 in Range(0, 1)
    assert np.nan not in Range()
    assert np.inf not in Range()
    assert np.inf in Range(infinite=True)
    assert str(Range(0, 1)) == "[0, 1]"
    assert str(Range(0, strict_low=True)) == "(0, inf)"
    assert str(Range(0, infinite=True)) == "[0, inf]"
    assert str(Range(0, 1, strict_high=True)) == "[0, 1)"
    assert 1 not in Range(0, 1, strict_high=True)
    assert str(Range()) == "(-inf, inf)"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Positive, "float in (0, inf)"),
        (NonNegative | Literal["auto"], "float in [0, inf) or 'auto'"),
        (Seed, "int in [0, 4294967295] or None"),
        (bool, "bool"),
        (Literal["a", "b"], "'a' or 'b'"),
        (Annotated[int, Range(1, 8)], "int in [1, 8]"),
    ],
)
def test_annotations_in_words(annotation, words):
    assert format_annotation(annotation) == words


def test_meanings_come_from_the_docstring():
    found = {p.name: p.meaning for p in parameters(Sample)}
    assert found["count"] == "How many of them."
    assert found["rate"] == 'Of change, or ``"auto"``.'
    assert found["share"] == "a part."
    assert found["flag"] == found["way"] == "How."
    assert (found["low"], found["high"]) == ("Least value.", "y, largest value.")
    assert found["free"] == "Anything."
    assert "nothing_" not in found


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_and_checks_its_parameters(name):
    cls = method_class(name)
    for parameter in parameters(cls):
        assert parameter.meaning, f"{cls.__name__}({parameter.name}=…) is not explained"
        assert parameter.annotation is not Any
    meanings = [parameter.meaning for parameter in parameters(cls)]
    assert len(set(meanings)) == len(meanings), f"{cls.__name__}: semicolons separate the meanings of several names"
    assert "random_state" in {p.name for p in parameters(cls)}
    check_parameters(cls())
    assert cls.title
    assert cls.paper
