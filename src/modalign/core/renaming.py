"""Former names of public parameters and of their values: accepted for one minor version, each with one warning.

The former names of a hyper-parameter are part of its annotation, ``Annotated[Count, Formerly("neighbours")]``;
functions use :func:`renamed_arguments`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from modalign.core.arguments.argument_types import checked_arguments
from modalign.core.errors import InputError, argument
from modalign.core.name_matching import spelling_key

REMOVED_IN = "0.3"
"""Version in which former names are removed."""

_OURS = ("modalign", "sklearn")  # whose lines are not the user's

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
NameFormatter = Callable[[str, str], str]


@dataclass(frozen=True)
class Formerly:
    """Former name of a parameter and former names of its values.

    Attributes
    ----------
    name : str
        The former name; empty if only values were renamed.
    values : tuple of pairs of str
        (former value, present value).
    """

    name: str = ""
    values: tuple[tuple[str, str], ...] = ()

    def present(self, value: Any) -> Any:
        """Return the current name of a value or list of values; the same object if it is current already."""
        if isinstance(value, list):
            found = [self.present(entry) for entry in value]
            return value if all(new is old for new, old in zip(found, value, strict=True)) else found
        return dict(self.values).get(value, value) if isinstance(value, str) else value


CENTER = Formerly(values=(("centre", "center"),))
OFFICIAL = Formerly(values=(("released", "official_code"),))
FORMER_PARTS = {"unlabeled": "unlabelled"}
"""Parts of images in files of earlier versions."""


def present_names(
    given: Mapping[str, Any],
    formerly: Mapping[str, Formerly],
    format_name: NameFormatter | None = argument,
) -> dict[str, Any]:
    """Return ``given`` with current names and values; names without an entry in ``formerly`` are unchanged.

    Parameters
    ----------
    given : mapping of str to any
        Name → value.
    formerly : mapping of str to Formerly
        Current name → former names.
    format_name : callable or None
        ``format_name(name, value)`` formats an argument for the warning. None accepts former names without a warning,
        for names from a file.

    Raises
    ------
    InputError
        A parameter is passed under its former and its current name.

    Warns
    -----
    FutureWarning
        One per former name or value, with the current one.
    """
    names = {spelling_key(former.name): name for name, former in formerly.items() if former.name}
    found: dict[str, Any] = {}
    for name, value in given.items():
        new = name if name in formerly else names.get(spelling_key(str(name)), name)
        if new in found or (new != name and new in given):
            raise InputError(f"Expected '{new}' once, got it by two names; leave '{name}' out.")
        found[new] = formerly[new].present(value) if new in formerly else value
        if format_name is None:
            continue
        if new != name:
            warn_renamed(format_name(name, ""), format_name(new, ""))
        elif found[new] is not value:
            warn_renamed(format_name(name, str(value)), format_name(new, str(found[new])))
    return found


def renamed_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator that accepts keyword arguments under former names: ``@renamed_arguments(former="current")``.

    The types of the arguments are checked as by :func:`~modalign.core.arguments.argument_types.checked_arguments`.
    """
    formerly = {new: Formerly(old) for old, new in names.items()}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        checked = checked_arguments(function)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return checked(*args, **present_names(kwargs, formerly))

        return call

    return decorate


def former_attributes(**names: str) -> Callable[[type[T]], type[T]]:
    """Class decorator that accepts attributes and constructor arguments under former names: ``former="current"``."""

    def decorate(cls: type[T]) -> type[T]:
        for old, new in names.items():
            setattr(cls, old, property(partial(_former_attribute, old, new), doc=f"Former name of ``{new}``."))
        setattr(cls, "__init__", renamed_arguments(**names)(cls.__init__))  # noqa: B010 - mypy refuses an assignment
        return cls

    return decorate


def _former_attribute(old: str, new: str, owner: object) -> Any:
    warn_renamed(f"{type(owner).__name__}.{old}", f"{type(owner).__name__}.{new}")
    return getattr(owner, new)


def present_value(name: str, value: Any, former: Formerly) -> Any:
    """Return the current name of the value of argument ``name``, with a warning if a former one was passed."""
    return present_names({name: value}, {name: former})[name]


def warn_renamed(old: str, new: str) -> None:
    """Warn that ``old`` is now ``new``, both as the caller writes them."""
    warnings.warn(
        f"{old} is now {new}; the old name stops working in version {REMOVED_IN}.",
        FutureWarning,
        stacklevel=stacklevel_outside(),
    )


def stacklevel_outside() -> int:
    """Number of stack frames between the calling function and the user's code.

    Decorators add frames, so a constant would be wrong. A warning with this ``stacklevel`` shows the line in the user's
    code.
    """
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        depth, frame = depth + 1, frame.f_back
    return depth
