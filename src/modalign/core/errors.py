"""Exceptions of the library. Each message states what was expected, what was passed, and what to do.

User errors raise a subclass of :class:`ModalignError`; the command line prints the message and exits with
``exit_code``. ``assert`` is used for internal invariants only.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from modalign.core.display import visible
from modalign.core.name_matching import nearest, spelling_key


class ModalignError(Exception):
    """Base class of all errors that a user can correct.

    Messages contain names of files and classes from untrusted sources; ``str()`` escapes control characters in them.

    Examples
    --------
    >>> import modalign as ma
    >>> try:
    ...     ma.load_items("no/such/folder")
    ... except ma.ModalignError as error:
    ...     error.exit_code
    2
    """

    exit_code = 1

    def __str__(self) -> str:
        return visible(super().__str__())


class InputError(ModalignError, ValueError):
    """An argument, a file or an array is invalid.

    Examples
    --------
    >>> import modalign as ma
    >>> ma.GDA(rounds=0).fit([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    Traceback (most recent call last):
        ...
    modalign.core.errors.InputError: GDA(rounds=…): expected int in [1, inf), got 0.
    """

    exit_code = 2


class InputTypeError(InputError, TypeError):
    """An entry of an array is an object of a type that cannot be used."""


class FullDiskError(InputError):
    """A file cannot be written because the disk is full or fails."""

    exit_code = 1


class CacheError(InputError):
    """The cache cannot be used."""


class FullCacheError(CacheError):
    """There is no space left for the cache; the computation is possible without it."""

    exit_code = 1


class UnknownNameError(InputError):
    """An unknown name of an encoder, method, data set or file; the message suggests the nearest known name."""

    def __init__(self, kind: str, got: str, known: Iterable[str], advice: str = "") -> None:
        known = sorted(known)
        close = nearest(got, known, cutoff=0.5)
        hint = f"did you mean '{close}'?" if close else f"known: {', '.join(known) or 'none'}."
        super().__init__(f"Unknown {kind} '{got}'; {hint}{' ' + advice if advice else ''}")


_options: Mapping[str, str] | None = None  # of the command that is running; None: the caller writes Python


@contextmanager
def options(names: Mapping[str, str] | None) -> Iterator[None]:
    """Context manager in which :func:`argument` names the options of a command.

    Parameters
    ----------
    names : mapping of str to str or None
        Argument of the library, or ``argument=value``, → the corresponding option, such as ``{"random_state": "--seed",
        "text=False": "--no-text"}``. ``"hyperparameters"`` → the option before ``name=value``; ``"fit shots"`` → the
        option of another command. None: Python arguments.
    """
    global _options
    before, _options = _options, names
    try:
        yield
    finally:
        _options = before


@contextmanager
def options_of_method(name: str) -> Iterator[None]:
    """Context manager in which :func:`hyperparameter` writes ``--set cmm.steps=…`` for ``--set METHOD.steps=…``."""
    known = None if _options is None else dict(_options)
    if known is not None and "hyperparameters" in known:
        known["hyperparameters"] = known["hyperparameters"].replace("METHOD", name)
    with options(known):
        yield


def current_options() -> Mapping[str, str] | None:
    """Current value of :func:`options`, to be passed to another process."""
    return _options


def argument(name: str, value: str = "", *, of: str = "") -> str:
    """Return an argument as the caller writes it: ``classes=…`` in Python, ``--classes`` on the command line.

    Every message that names an argument uses this function, so that the advice is valid for the caller. On the command
    line, an argument without an option is written as its plain name.

    Parameters
    ----------
    name : str
        Name of the argument in Python.
    value : str, default=""
        Value as text (``"True"``, ``"gpua"``); empty if any value is meant.
    of : str, default=""
        Command that has the option, if it is not the current one.
    """
    if _options is None:
        return f"{name}={_python(value)}"
    prefix = f"{of} " if of else ""
    if f"{prefix}{name}={value}" in _options:
        return _options[f"{prefix}{name}={value}"]
    return " ".join(filter(None, [_options.get(f"{prefix}{name}", name), value]))


def hyperparameter(name: str, value: str = "", owner: str = "") -> str:
    """Like :func:`argument` for a hyper-parameter: ``steps=…``, ``CMM(steps=…)`` or ``--set steps=…``."""
    if _options is None:
        setting = f"{name}={_python(value)}"
        return f"{owner}({setting})" if owner else setting
    own = _options.get(name)  # an option of its own, such as --seed
    option = f"{own} {value or '…'}" if own else f"{_options.get('hyperparameters', '')}{name}={value or '…'}"
    return f"{owner} ({option})" if owner else option


def _python(value: str) -> str:
    """Format ``value`` as Python source: a word that is neither a constant nor a number is a string."""
    return repr(value) if value.isidentifier() and value not in ("True", "False", "None") else value or "…"


def require_some(**given: Sized) -> None:
    """Raise if an argument, passed by its name, is empty."""
    for name, values in given.items():
        if not values:
            raise InputError(f"Expected {argument(name)} to hold at least one, got none.")


def require_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise unless the argument ``name`` is one of the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise UnknownNameError(f"value of {name}", str(value), choices)


def require_known(kind: str, given: Mapping[str, Any], known: Iterable[str], advice: str = "") -> dict[str, Any]:
    """Return ``given`` under the known names; American and British spelling are equivalent.

    Parameters
    ----------
    kind : str
        What the names are, for the message.
    given : mapping
        Name → value.
    known : iterable of str
        Names in the spelling of the library.
    advice : str, default=""
        The end of the message.

    Raises
    ------
    UnknownNameError
        A name is unknown; the message suggests the nearest known name.
    InputError
        One name is given in two spellings.
    """
    names = tuple(known)
    by_spelling = {spelling_key(name): name for name in names}
    found: dict[str, Any] = {}
    for name, value in given.items():
        meant = name if name in names else by_spelling.get(spelling_key(str(name)))
        if meant is None:
            raise UnknownNameError(kind, str(name), names, advice)
        if meant in found:
            raise InputError(f"Expected {kind} '{meant}' once, got it in two spellings; leave one out.")
        found[meant] = value
    return found


class UndecodableError(ModalignError):
    """The bytes cannot be decoded as an image; the message is the reason shown to the user.

    Attributes
    ----------
    lasting : bool
        Whether the reason is a property of the bytes. False for a temporary condition of the machine, such as a lack of
        memory or a missing decoder, which must not be cached.
    """

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.lasting = lasting


class EncoderMismatchError(InputError):
    """Features are from another encoder than the one that a model was fitted on."""


class UnavailableError(ModalignError, OSError):
    """Weights are not on this machine and cannot be downloaded."""


class MissingExtraError(ModalignError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional ``module``; raise an error that names the missing extra otherwise."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"This needs the package '{module.split('.')[0]}', which is not installed; "
            f"run: pip install 'modalign[{extra}]'"
        ) from error


_FAULT_KINDS = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "list": "a list",
    "dict": "an object", "model": "an object", "path": "a path", "url": "an address", "json": "a JSON document",
}  # fmt: skip
_FAULT_LIMITS = {
    "greater_than_equal": "of at least {ge}", "greater_than": "of more than {gt}", "less_than_equal": "of at most {le}",
    "less_than": "of less than {lt}", "string_too_long": "of at most {max_length} characters",
    "string_too_short": "of at least {min_length} characters", "too_long": "of at most {max_length} entries",
    "too_short": "of at least {min_length} entries",
}  # fmt: skip
_FAULTS_OF_KIND = ("type", "parsing", "parsing_size", "from_float", "attributes_type", "invalid")
_MOST_SHOWN = 60  # characters of a value


def fault_sentence(name: str, fault: Mapping[str, Any]) -> str:
    """Return "Expected …, got …", without a full stop, for a fault that pydantic finds in an option or a request.

    Parameters
    ----------
    name : str
        The option or parameter.
    fault : mapping
        An entry of ``ValidationError.errors()`` of pydantic: ``type``, ``input``, and ``ctx`` with limits.
    """
    kind, context = str(fault["type"]), fault.get("ctx") or {}
    if kind == "missing":
        return f"Expected {name}, got none"
    if kind == "extra_forbidden":
        return f"Expected no {name}, which is unknown"
    value = fault.get("input")
    shown = repr(value)
    if len(shown) > _MOST_SHOWN:
        shown = repr(f"{value[:_MOST_SHOWN]}…") if isinstance(value, str) else f"{shown[:_MOST_SHOWN]}…"
    got = f"got {shown}"
    if kind in _FAULT_LIMITS and str(value).strip().lower() in ("nan", "+nan", "-nan"):
        return f"Expected {name} as a number, {got}"
    if kind in _FAULT_LIMITS:
        return f"Expected {name} {_FAULT_LIMITS[kind].format(**context)}, {got}"
    if kind in ("enum", "literal_error"):
        return f"Expected {name} as {context['expected']}, {got}"
    prefix, _, rest = kind.partition("_")
    wanted = _FAULT_KINDS.get(prefix) if rest in _FAULTS_OF_KIND else None
    return f"Expected {name} as {wanted}, {got}" if wanted else f"Expected another value for {name}, {got}"
