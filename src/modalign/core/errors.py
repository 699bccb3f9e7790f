"""The exceptions of the library: each says what was expected, what came and what to do.

Everything a user can get wrong raises a subclass of :class:`ModalignError`; the command line prints its
one sentence and exits with ``exit_code``. ``assert`` is kept for invariants of our own.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from modalign.core.display import visible
from modalign.core.spelling import nearest, spelled_alike


class ModalignError(Exception):
    """Base of all errors that a user can act upon.

    Messages hold names of files and classes, which come from strangers; ``str()`` shows what a terminal would obey.

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
    """An argument, a file or an array is not what was asked for.

    Examples
    --------
    >>> import modalign as ma
    >>> ma.GDA(rounds=0).fit([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    Traceback (most recent call last):
        ...
    modalign.core.errors.InputError: GDA(rounds=…): expected int in [1, inf), got 0.
    """

    exit_code = 2


class FullDiskError(InputError):
    """A file cannot be written although its place is right: the disk is full or fails."""

    exit_code = 1


class CacheError(InputError):
    """The cache cannot be used."""


class FullCacheError(CacheError):
    """There is no room for what would be kept in the cache; it can be computed without."""

    exit_code = 1


class UnknownNameError(InputError):
    """A name (encoder, method, dataset, file) that does not exist; suggests the nearest one that does."""

    def __init__(self, kind: str, got: str, known: Iterable[str], advice: str = "") -> None:
        known = sorted(known)
        close = nearest(got, known, cutoff=0.5)
        hint = f"did you mean '{close}'?" if close else f"known: {', '.join(known) or 'none'}."
        super().__init__(f"Unknown {kind} '{got}'; {hint}{' ' + advice if advice else ''}")


_options: Mapping[str, str] | None = None  # of the command that is running; None: the caller writes Python


@contextmanager
def options(names: Mapping[str, str] | None) -> Iterator[None]:
    """Inside, :func:`argument` speaks of the options of a command.

    Parameters
    ----------
    names : mapping of str to str or None
        Argument of the library, or ``argument=value``, → the option that stands for it, such as ``{"random_state":
        "--seed", "text=False": "--no-text"}``. ``"hyperparameters"`` → what stands before ``name=value``; ``"fit
        shots"`` → the option of another command. None: arguments of Python.
    """
    global _options
    before, _options = _options, names
    try:
        yield
    finally:
        _options = before


def current_options() -> Mapping[str, str] | None:
    """What :func:`options` was told, to hand on to another process."""
    return _options


def argument(name: str, value: str = "", *, of: str = "") -> str:
    """How the caller writes an argument, for a message: ``classes=…`` in Python, ``--classes`` on the command line.

    Every message that names an argument calls this when it is made, so that its advice can be followed where it is
    read. On the command line an argument without an option is its bare name.

    Parameters
    ----------
    name : str
        Of the argument in Python.
    value : str, default=""
        As text (``"True"``, ``"gpua"``); nothing where any value is meant.
    of : str, default=""
        The command that has the option, if that is not the one that is running.
    """
    if _options is None:
        return f"{name}={_python(value)}"
    prefix = f"{of} " if of else ""
    if f"{prefix}{name}={value}" in _options:
        return _options[f"{prefix}{name}={value}"]
    return " ".join(filter(None, [_options.get(f"{prefix}{name}", name), value]))


def hyperparameter(name: str, value: str = "", owner: str = "") -> str:
    """The same of a hyper-parameter: ``steps=…``, ``CMM(steps=…)`` of an ``owner``; ``--set steps=…``."""
    if _options is None:
        setting = f"{name}={_python(value)}"
        return f"{owner}({setting})" if owner else setting
    own = _options.get(name)  # an option of its own, such as --seed
    option = f"{own} {value or '…'}" if own else f"{_options.get('hyperparameters', '')}{name}={value or '…'}"
    return f"{owner} ({option})" if owner else option


def _python(value: str) -> str:
    """``value`` as Python source: a word that is no constant and no number is a string."""
    return repr(value) if value.isidentifier() and value not in ("True", "False", "None") else value or "…"


def require_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise unless the argument ``name`` is one of the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise UnknownNameError(f"value of {name}", str(value), choices)


def require_known(kind: str, given: Mapping[str, Any], known: Iterable[str], advice: str = "") -> dict[str, Any]:
    """``given`` under the names that are known; American and British spelling are one name.

    Parameters
    ----------
    kind : str
        What the names are, for the message.
    given : mapping
        Name → value.
    known : iterable of str
        The names as they are written here.
    advice : str, default=""
        The end of the message.

    Raises
    ------
    UnknownNameError
        A name is unknown; the message has the nearest known one.
    InputError
        One name is given in two spellings.
    """
    names = tuple(known)
    by_spelling = {spelled_alike(name): name for name in names}
    found: dict[str, Any] = {}
    for name, value in given.items():
        meant = name if name in names else by_spelling.get(spelled_alike(str(name)))
        if meant is None:
            raise UnknownNameError(kind, str(name), names, advice)
        if meant in found:
            raise InputError(f"Expected {kind} '{meant}' once, got it in two spellings; leave one out.")
        found[meant] = value
    return found


class UndecodableError(ModalignError):
    """The bytes are not an image that can be decoded; the message is the reason shown to the user.

    Attributes
    ----------
    lasting : bool
        Whether the reason is a property of the bytes. False for a passing condition of the machine, such as a lack of
        memory or a decoder that is not installed; it must not be remembered.
    """

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.lasting = lasting


class EncoderMismatchError(InputError):
    """A fitted model met features of another encoder than the one it was fitted on."""


class UnavailableError(ModalignError, OSError):
    """Weights that are not on this machine and cannot be fetched."""


class MissingExtraError(ModalignError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional ``module``, or say in one sentence which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"This needs the package '{module.split('.')[0]}', which is not installed; "
            f"run: pip install 'modalign[{extra}]'"
        ) from error
