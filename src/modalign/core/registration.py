"""Methods and encoders of other packages: registered in Python, or entry points of installed packages.

A package that cannot be imported affects its own names only: they are missing from lists, with a warning, and using one
raises an error. Entry points are read when a name is not built in or when all names are listed, never on import.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from modalign.core.errors import InputError
from modalign.core.renaming import stacklevel_outside

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_NAME = re.compile(r"[a-z]\w*", flags=re.ASCII)


def canonical_name(name: str) -> str:
    """Normalize a name: ``"Tip-Adapter"`` becomes ``"tip_adapter"``."""
    if not isinstance(name, str):
        raise InputError(f"Expected a name as text, got {type(name).__name__}.")
    return name.lower().replace("-", "_")


class Registry:
    """Registry of objects of one kind that other packages provide, by name.

    Parameters
    ----------
    kind : str
        Kind of the objects, for messages: ``"method"``.
    group : str
        Group of entry points.
    built_in : iterable of str
        Names of the library, which cannot be registered.
    check : callable
        ``check(thing)`` returns the object to store; raises an InputError if it is not of this kind.

    Attributes
    ----------
    registered : dict
        Name → registered object.
    """

    def __init__(self, kind: str, group: str, built_in: Iterable[str], check: Callable[[Any], Any]) -> None:
        self.kind, self.group, self.check = kind, group, check
        self.built_in = frozenset(map(canonical_name, built_in))
        self.registered: dict[str, Any] = {}

    def register(self, name: str, thing: Any) -> None:
        """Register a name for this process. Registering an equal object again has no effect.

        Raises
        ------
        InputError
            The name is invalid or taken, or the object is not of this kind.
        """
        key = canonical_name(name)
        if not _NAME.fullmatch(key):
            raise InputError(
                f"Expected a name of letters, digits and underscores for a {self.kind}, got '{name}'; choose another."
            )
        if key in self.built_in:
            raise InputError(f"The {self.kind} '{key}' is part of modalign; choose another name.")
        try:
            thing = self.check(thing)
        except InputError as error:
            raise InputError(f"The {self.kind} '{key}' cannot be registered: {error}") from None
        before = self.registered.get(key)
        if before is not None and not _same(before, thing):
            raise InputError(f"The {self.kind} '{key}' is registered already, as {before!r}; choose another name.")
        for point in self._installed().get(key, ()):
            if point.value != f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}":
                raise InputError(
                    f"The package '{_package(point)}' has a {self.kind} '{key}' already; choose another name."
                )
        self.registered[key] = thing

    def __contains__(self, name: str) -> bool:
        """Return whether a package provides the name. No package is imported."""
        key = canonical_name(name)
        if key in self.built_in or not _NAME.fullmatch(key):
            return False
        return key in self.registered or key in self._installed()

    def names(self) -> list[str]:
        """Return the names of other packages, sorted. No package is imported."""
        return sorted({*self.registered, *self._installed()} - self.built_in)

    def get(self, name: str) -> Any:
        """Return the object of a name; imports its package.

        Raises
        ------
        InputError
            The package cannot be imported, or its object is not of this kind.
        """
        key = canonical_name(name)
        if key in self.registered:
            return self.registered[key]
        points = self._installed()[key]
        packages = sorted({_package(point) for point in points})
        if len(packages) > 1:
            raise InputError(
                f"The packages {' and '.join(map(repr, packages))} both have a {self.kind} '{key}'; uninstall one."
            )
        failed = f"The {self.kind} '{key}' of the package '{packages[0]}' cannot be used"
        try:
            return self.check(points[0].load())
        except InputError as error:
            raise InputError(f"{failed}: {error}") from None
        except Exception as error:  # importing a package may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
            raise InputError(f"{failed}: {reason[:200]}.") from error

    def usable(self) -> dict[str, Any]:
        """Return name → object for all packages that can be imported.

        Warns
        -----
        UserWarning
            For each name that cannot be used or that is a built-in name.
        """
        found = {}
        for key in self.names():
            try:
                found[key] = self.get(key)
            except InputError as error:
                warnings.warn(f"{error} It is left out.", stacklevel=stacklevel_outside())
        for key in sorted(self.built_in & self._installed().keys()):
            package = _package(self._installed()[key][0])
            warnings.warn(
                f"The package '{package}' has a {self.kind} '{key}', which is the name of one of modalign; "
                "it is left out.",
                stacklevel=stacklevel_outside(),
            )
        return found

    def package(self, name: str) -> str | None:
        """Return the package that provides a name, with its version: ``"nearest-mean 0.1"``; None if unknown."""
        from importlib.metadata import packages_distributions, version

        key = canonical_name(name)
        for point in self._installed().get(key, ()):
            if point.dist is not None:
                return f"{point.dist.name} {point.dist.version}"
        module = getattr(self.registered.get(key), "__module__", "").partition(".")[0]
        found = packages_distributions().get(module, ())
        return f"{found[0]} {version(found[0])}" if found else None

    def _installed(self) -> dict[str, tuple[EntryPoint, ...]]:
        return _entry_points(self.group, tuple(sys.path))


@lru_cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """Return name → its different entry points; ``path`` is the search path."""
    from importlib.metadata import entry_points  # 20 ms, which importing the library must not cost

    found: dict[str, dict[EntryPoint, None]] = {}
    for point in entry_points(group=group):
        found.setdefault(canonical_name(point.name), {})[point] = None
    return {name: tuple(points) for name, points in found.items() if _NAME.fullmatch(name)}


def _package(point: EntryPoint) -> str:
    return point.module.partition(".")[0] if point.dist is None else point.dist.name


def _same(one: Any, other: Any) -> bool:
    """Return whether two objects are equal, or the same class or function defined again in a notebook."""
    if isinstance(one, type) or callable(one):
        places = [(getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)) for thing in (one, other)]
        return one is other or (None not in places[0] and places[0] == places[1])
    return bool(one == other)
