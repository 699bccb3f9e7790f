"""Lazy import of the public names of a package, so that importing the package is fast."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from modalign.core.name_matching import did_you_mean


def lazily(
    package: str, home: Mapping[str, str], *present: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Parameters
    ----------
    package : str
        Name of the package.
    home : mapping of str to str
        Name → module that defines it.
    present : str
        Other names, which are already defined.
    """

    def get(name: str) -> Any:
        if name not in home:
            hint = "" if name.startswith("_") else did_you_mean(name, home)
            raise AttributeError(f"module '{package}' has no attribute '{name}'.{hint}", name=name)
        value = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: [*present, *home]
