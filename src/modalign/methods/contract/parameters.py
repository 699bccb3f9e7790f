"""Hyper-parameters: type, range and default from the constructor, description from the docstring.

``Annotated`` aliases define the range; :func:`check_parameters` uses them for validation, and the command line and the
docs pages display them.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache, partial
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from modalign.core.errors import InputError, UnknownNameError, hyperparameter, require_known
from modalign.core.randomness import LARGEST_SEED
from modalign.core.renaming import CENTER, Formerly, present_names


@dataclass(frozen=True)
class Range:
    """low ≤ value ≤ high, finite; ``strict_low``, ``strict_high`` exclude a bound, ``infinite`` includes infinity."""

    low: float = -np.inf
    high: float = np.inf
    strict_low: bool = False
    infinite: bool = False
    strict_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.strict_low else self.low <= value
        below = value < self.high if self.strict_high else value <= self.high
        return above and below and (self.infinite or abs(value) < np.inf)

    def __str__(self) -> str:
        opening = "(" if self.strict_low or self.low == -np.inf else "["
        closing = "]" if self.infinite or (self.high < np.inf and not self.strict_high) else ")"
        return f"{opening}{self.low:.10g}, {self.high:.10g}{closing}"


Positive = Annotated[float, Range(0, strict_low=True)]
PositiveOrInfinite = Annotated[float, Range(0, strict_low=True, infinite=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1)]
Seed = Annotated[int, Range(0, LARGEST_SEED)] | None
Augmentations = Annotated[str | list, CENTER]


@dataclass(frozen=True)
class Parameter:
    """Constructor argument of a method, for display; ``formerly`` has its former names."""

    name: str
    annotation: Any
    default: Any
    meaning: str
    formerly: Formerly | None = None


@cache
def parameters(cls: type) -> tuple[Parameter, ...]:
    """Return the hyper-parameters of ``cls`` in constructor order, with descriptions from the docstrings."""
    constructor: Any = cls.__init__  # type: ignore[misc]  # not that of a subclass
    hints = get_type_hints(cls if is_dataclass(cls) else constructor, include_extras=True)
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        meanings |= _meanings(inspect.cleandoc(vars(base).get("__doc__") or ""))
    signature = inspect.signature(constructor)
    return tuple(
        Parameter(name, annotation, parameter.default, meanings.get(name, ""), formerly)
        for name, parameter in signature.parameters.items()
        if name != "self"
        for annotation, formerly in [_without_former_names(hints.get(name, Any))]
    )


def former_names(cls: type) -> dict[str, Formerly]:
    """Return renamed hyper-parameters of ``cls``, and those with renamed values, → former names."""
    return {p.name: p.formerly for p in parameters(cls) if p.formerly is not None}


def known_parameters(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` under the names of ``cls``; American and British spelling are equivalent.

    Raises
    ------
    UnknownNameError
        ``cls`` has no such parameter; the message suggests the nearest name.

    Warns
    -----
    FutureWarning
        A name or value that ``cls`` had formerly.
    """
    settings = present_names(settings, former_names(cls), partial(hyperparameter, owner=cls.__name__))
    return require_known(f"hyper-parameter of {cls.__name__}", settings, [p.name for p in parameters(cls)])


def check_parameters(estimator: object) -> None:
    """Raise if a hyper-parameter of ``estimator`` has a wrong type or is out of range."""
    cls: type = type(estimator)
    for parameter in parameters(cls):
        value = getattr(estimator, parameter.name)
        if not _fits(value, parameter.annotation):
            _refuse(type(estimator).__name__, parameter, value)


def fits(value: object, parameter: Parameter) -> bool:
    """Whether ``value`` has the type and lies in the range of a hyper-parameter."""
    return _fits(value, parameter.annotation)


def require_stop(stop: int | None, length: int) -> None:
    """Raise if ``stop`` is larger than ``length`` steps or epochs."""
    if stop is not None and stop > length:
        raise InputError(f"Expected stop ≤ {length}, the length of the training, got {stop}.")


def format_annotation(annotation: Any) -> str:
    """Format an annotation as text: ``float in (0, inf)``, ``'a' or 'b'``, ``None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        kind, *extra = get_args(annotation)
        return " ".join([format_annotation(kind), *(f"in {e}" for e in extra if isinstance(e, Range))])
    if origin is Literal:
        return " or ".join(repr(choice) for choice in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(format_annotation(choice) for choice in get_args(annotation))
    if annotation is NoneType:
        return "None"
    return getattr(annotation, "__name__", str(annotation)) if origin is None else str(annotation)


def _without_former_names(annotation: Any) -> tuple[Any, Formerly | None]:
    """The annotation and the former names in it, apart."""
    if get_origin(annotation) is not Annotated:
        return annotation, None
    kind, *extra = get_args(annotation)
    rest = tuple(e for e in extra if not isinstance(e, Formerly))
    former = next((e for e in extra if isinstance(e, Formerly)), None)
    return (Annotated[(kind, *rest)] if rest else kind), former


def _fits(value: Any, annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        kind, *extra = get_args(annotation)
        return _fits(value, kind) and all(value in e for e in extra if isinstance(e, Range))
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in get_args(annotation))
    if origin is Literal:
        return any(
            value is choice or (type(value) is type(choice) and value == choice) for choice in get_args(annotation)
        )
    if annotation is Any:
        return True
    if annotation is bool:
        return isinstance(value, (bool, np.bool_))
    if isinstance(value, Integral) and abs(int(value)) > sys.maxsize:
        return False  # torch takes 64 bits
    if annotation is float:
        return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
    if annotation is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, origin or annotation)


def _refuse(owner: str, parameter: Parameter, value: Any) -> None:
    name = hyperparameter(parameter.name, owner=owner)
    kind = parameter.annotation
    if get_origin(kind) in (Union, UnionType) and get_args(kind)[1:] == (NoneType,):
        kind = get_args(kind)[0]
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if isinstance(value, str) and any(isinstance(choice, str) for choice in choices):
        raise UnknownNameError(f"value of {name}", value, [c for c in choices if isinstance(c, str)])
    raise InputError(f"{name}: expected {format_annotation(parameter.annotation)}, got {value!r}.")


def _meanings(doc: str) -> dict[str, str]:
    """Read the ``Parameters`` section of a numpydoc docstring: name → one line of meaning.

    The meaning is the indented text below ``name : type``, or what follows the colon if there is none. Of several names
    (``a, b : type``), semicolons separate their meanings.
    """
    match = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", doc, flags=re.MULTILINE | re.DOTALL)
    if not match:
        return {}
    entries = re.findall(r"^(\w[\w, ]*?)[ ]*(?::[ ]*(.*))?$\n?((?:^[ \t]+.*\n?)*)", match.group(1), flags=re.MULTILINE)
    found: dict[str, str] = {}
    for names, inline, below in entries:
        meaning, several = " ".join((below or inline).split()), [name.strip() for name in names.split(",")]
        parts = meaning.removesuffix(".").split("; ")
        own = len(several) == len(parts) > 1
        found |= zip(several, map(_sentence, parts) if own else [meaning] * len(several), strict=True)
    return found


def _sentence(text: str) -> str:
    """``text`` with a full stop and, unless it begins with a symbol of one letter, a capital."""
    return f"{text[:1].upper() if text[1:2].isalpha() else text[:1]}{text[1:]}."
