"""Names of a package that are imported when they are first asked for, so that importing the package is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from modalign.core.spelling import did_you_mean


def lazily(
    package: str, home: Mapping[str, str], *present: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__`` (PEP 562).

    Parameters
    ----------
    package : str
        Its name.
    home : mapping of str to str
        Name → the module of the package that has it.
    present : str
        Other names, which are there already.
    """

    def get(name: str) -> Any:
        if name not in home:
            hint = "" if name.startswith("_") else did_you_mean(name, home)
            raise AttributeError(f"module '{package}' has no attribute '{name}'.{hint}", name=name)
        value = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: [*present, *home]
