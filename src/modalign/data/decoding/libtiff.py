"""Silence for libtiff, which writes to the terminal about damaged files without naming them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import PIL


@contextmanager
def silent_libtiff() -> Iterator[None]:
    """No message of libtiff inside, then the handlers that were set before.

    The handlers are of the whole process, so two threads must not be inside at once. Where Pillow's copy of the library
    cannot be reached (it is linked statically on Windows), nothing happens.
    """
    setters = _setters()
    previous = [setter(None) for setter in setters]
    try:
        yield
    finally:
        for setter, handler in zip(setters, previous, strict=True):
            setter(handler)


@cache
def _setters() -> tuple[Callable[[int | None], int | None], ...]:
    path = _library()
    if path is None:
        return ()
    try:
        library = ctypes.CDLL(path)
        setters = (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler)
    except (OSError, AttributeError):
        return ()
    for setter in setters:
        setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    return setters


def _library() -> str | None:
    """The copy of libtiff that Pillow has loaded, or None."""
    if sys.platform.startswith("linux"):
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            paths = [line.split(maxsplit=5)[-1].strip() for line in maps]
        return next((path for path in paths if Path(path).name.startswith("libtiff")), None)
    folder = Path(PIL.__file__).parent
    found = [*folder.glob(".dylibs/libtiff*"), *folder.parent.glob("pillow.libs/libtiff*")]
    return str(found[0]) if found else None
