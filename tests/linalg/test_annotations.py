"""The shapes in the annotations of ``linalg`` are checked in these tests: a wrong one is found."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module

import pytest
import torch
from checked_annotations import checked
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from modalign import linalg
from modalign.core.errors import InputError
from modalign.linalg.similarity import cosine


def transposed(X: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:  # noqa: F722
    if X.ndim != 2:
        raise InputError("Expected a matrix.")
    return X.T


def test_a_result_of_another_shape_and_input_that_is_let_through_are_found() -> None:
    check = checked(transposed)
    assert check(torch.ones(2, 2)).shape == (2, 2)
    with pytest.raises(TypeCheckError):
        check(torch.ones(2, 3))  # its result is (3, 2)
    with pytest.raises(TypeCheckError):
        check(torch.ones(2, 2, dtype=torch.int64))  # integers are let through
    with pytest.raises(InputError):
        check(torch.ones(2))


def test_the_functions_of_every_module_are_checked() -> None:
    modules = [import_module(f"modalign.linalg.{found.name}") for found in pkgutil.iter_modules(linalg.__path__)]
    functions = [f for m in modules for n, f in vars(m).items() if inspect.isfunction(f) and f.__module__ == m.__name__]
    assert sum(hasattr(f, "__wrapped__") for f in functions) >= 35
    assert hasattr(cosine, "__wrapped__")
