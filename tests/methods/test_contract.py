"""What every method promises, whatever it computes: the laws of ``modalign.testing`` on all methods on vectors."""

from __future__ import annotations

from functools import cache

import pytest
from problems import quick

from modalign.methods import METHODS
from modalign.testing import LAWS, Subject

TOLERANCE = {"linear_probe": 1e-3}  # L-BFGS stops at a tolerance; rounding that depends on orders of sums moves where
SETTINGS = {("linear_probe", "chosen_parameters_reproduce_the_model"): {"C": "auto"}}  # quick ones choose nothing
EXEMPT = {
    ("auto", "chosen_parameters_reproduce_the_model"): "it chooses methods and weights, not hyper-parameters",
}


@cache
def subject(name: str) -> Subject:
    """One per method, which keeps its fits for all laws."""
    return Subject(quick(name), TOLERANCE.get(name, 1e-4))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", METHODS)
def test_contract(name: str, law: str) -> None:
    if (name, law) in EXEMPT:
        pytest.skip(EXEMPT[name, law])
    settings = SETTINGS.get((name, law))
    LAWS[law](subject(name) if settings is None else Subject(quick(name, **settings)))
