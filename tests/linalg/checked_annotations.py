"""Checks of the shapes and types in the annotations of functions, for the tests of ``linalg``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import TypeCheckError, jaxtyped

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with arguments and results checked against its annotations."""
    strict = jaxtyped(function, typechecker=check)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return strict(*args, **kwargs)
        except TypeCheckError:
            function(*args, **kwargs)  # raises for input that the annotations do not allow
            raise

    return call


def check_annotations(module: Any) -> None:
    """Put checked functions and methods in the place of those of a module that have shapes in their annotations."""
    for name, thing in list(vars(module).items()):
        if getattr(thing, "__module__", "") != module.__name__ or name.startswith("_"):
            continue
        owners = [(module, name, thing)] if inspect.isfunction(thing) else []
        if inspect.isclass(thing):
            owners = [(thing, n, f) for n, f in vars(thing).items() if inspect.isfunction(f) and not n.startswith("_")]
        for owner, key, function in owners:
            if any("[Tensor, " in str(annotation) for annotation in function.__annotations__.values()):
                setattr(owner, key, checked(function))
