"""Types of the arguments of public functions, from their annotations."""

from __future__ import annotations

import builtins
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from numbers import Integral, Real
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from modalign.core.errors import InputError, ModalignError, argument

P = ParamSpec("P")
R = TypeVar("R")
SHOWN = 1000  # elements of a sequence whose types are looked at
_NUMBERS: dict[Any, Any] = {int: Integral, float: Real}
_FAILURES = (TypeError, ValueError, AttributeError, LookupError, OverflowError, RuntimeError)


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator for public functions: an argument of a wrong type gets one sentence instead of a traceback.

    Truth values are checked before the call, since any text counts as true, and bytes, since they are sequences of
    integers. Scalars of NumPy become those of Python. The types of the others are looked at if the call fails: if one
    does not fit its annotation, an :class:`~modalign.InputError` names it; otherwise the error is raised as it is.
    Valid calls cost microseconds.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        plain: Any = tuple(map(_plain_scalar, args))
        named: Any = {name: _plain_scalar(value) for name, value in kwargs.items()}
        for name, value, annotation in _given(signature, function, plain, named):
            strict = annotation is bool or isinstance(value, (bytes, bytearray))
            if strict and not _fits(value, annotation):
                raise _refusal(name, value, annotation)
        try:
            return function(*plain, **named)
        except ModalignError:
            raise
        except _FAILURES:
            for name, value, annotation in _given(signature, function, plain, named):
                if not _fits(value, annotation):
                    raise _refusal(name, value, annotation) from None
            raise

    return call


def checked_init(cls: type[R]) -> type[R]:
    """Decorator for a class whose constructor has :func:`checked_arguments`."""
    setattr(cls, "__init__", checked_arguments(cls.__init__))  # noqa: B010 - mypy refuses an assignment
    return cls


def _plain_scalar(value: Any) -> Any:
    """A scalar of NumPy as one of Python; anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and not hasattr(value, "__array_finalize__") else value


def _given(
    signature: inspect.Signature, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and annotation of each argument; nothing if the arguments do not match the signature."""
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return
    annotations = _annotations(inspect.unwrap(function))
    for name, value in bound.items():
        parameter = signature.parameters[name]
        if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            yield name, value, annotations.get(name, Any)


class _Names(dict[str, Any]):
    """Names of a module; those that it imports for the type checker only are Any."""

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            raise KeyError(name)
        return Any


@cache
def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, localns=_Names(function.__globals__), include_extras=True)
    except (TypeError, AttributeError):  # a generic type of a name that is missing
        return {}


def _refusal(name: str, value: Any, annotation: Any) -> InputError:
    shown = "" if type(value).__repr__ is object.__repr__ else f" {' '.join(repr(value).split()):.60}"
    return InputError(f"Expected {argument(name)} as {_words(annotation)}, got {type(value).__name__}{shown}.")


def _words(annotation: Any) -> str:
    """``int, str or None``."""
    if get_origin(annotation) in (Union, types.UnionType):
        *others, last = (_words(choice) for choice in get_args(annotation))
        return f"{', '.join(others)} or {last}"
    if get_origin(annotation) is Literal:
        return " or ".join(map(repr, get_args(annotation)))
    if get_origin(annotation) is Annotated:
        return _words(get_args(annotation)[0])
    if annotation is None or annotation is types.NoneType:
        return "None"
    if (origin := get_origin(annotation)) is not None:
        inner = ", ".join(_words(part) for part in get_args(annotation) if part is not ...)
        return f"{origin.__name__}[{inner}]" if inner else origin.__name__
    return getattr(annotation, "__name__", str(annotation))


@cache
def _of_array_like() -> frozenset[Any]:
    """The choices of ``ArrayLike``, which nearly every value fits; the functions that read an array judge it."""
    from numpy.typing import ArrayLike  # which importing the library does not load

    return frozenset(get_args(ArrayLike))


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value has the annotated type, as far as that can be told; NumPy scalars are numbers."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return set(parts) >= _of_array_like() or any(_fits(value, choice) for choice in parts)
    if origin is Annotated:
        return _fits(value, parts[0])
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in parts)
    if annotation is None:
        return value is None
    if annotation is bool:
        return type(value).__name__ in ("bool", "bool_")  # also that of NumPy
    if annotation in (int, float):
        fits = isinstance(value, _NUMBERS[annotation]) and not isinstance(value, bool)
        return fits and (not isinstance(value, Integral) or abs(int(value)) <= sys.maxsize)
    kind = origin or annotation
    kind = (list, tuple) if kind in (list, tuple) else kind  # constructors convert them
    if not isinstance(kind, (type, tuple)) or kind is object:
        return True
    try:
        if not isinstance(value, kind):
            return False
    except TypeError:  # a protocol
        return True
    if isinstance(value, (list, tuple, set, frozenset)) and parts and (len(parts) == 1 or parts[-1] is ...):
        return all(_fits(entry, parts[0]) for entry in list(value)[:SHOWN])
    return not isinstance(value, (str, bytes)) or not parts or (isinstance(value, str) and parts[0] is str)
