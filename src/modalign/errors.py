"""The exceptions of the library: each says what was expected, what came and what to do.

Everything a user can get wrong raises a subclass of :class:`ModalignError`; the command line prints its
one sentence and exits with ``exit_code``. ``assert`` is kept for invariants of our own.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType


class ModalignError(Exception):
    """Base of all errors that a user can act upon."""

    exit_code = 1


class InputError(ModalignError, ValueError):
    """An argument, a file or an array is not what was asked for."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name (encoder, method, dataset, file) that does not exist; suggests the nearest one that does."""

    def __init__(self, kind: str, got: str, known: Iterable[str], advice: str = "") -> None:
        known = sorted(known)
        close = get_close_matches(got.lower(), known, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known) or 'none'}."
        super().__init__(f"Unknown {kind} '{got}'; {hint}{' ' + advice if advice else ''}")


def require_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise unless the argument ``name`` is one of the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise UnknownNameError(f"value of {name}", str(value), choices)


class UndecodableError(ModalignError):
    """The bytes are not an image that can be decoded; the message is the reason shown to the user."""


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
