"""Models as files: one safetensors file for the arrays, one JSON card for everything else.

See :mod:`~modalign.core.files.cards` for how the two are written and read.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from modalign.core.card_names import CLASSIFIER
from modalign.core.errors import InputError, UnknownNameError
from modalign.core.files import CardFormat, local_path, require_path
from modalign.core.record import plain, versions
from modalign.core.renaming import stacklevel_outside
from modalign.methods import is_known, method_class
from modalign.model.persistence.description import Description
from modalign.model.persistence.earlier_versions import upgraded
from modalign.model.persistence.state import encode_method, packages_of, restore_method

if TYPE_CHECKING:
    from modalign.methods.contract.tower import TowerMethod
    from modalign.methods.contract.vectors import VectorMethod

    Method = VectorMethod | TowerMethod

_PACKAGE = re.compile(r"[A-Za-z0-9][\w.-]{,80} [\w.+!-]{,40}", flags=re.ASCII)  # and version

FORMAT = CardFormat(
    family="modalign-model",
    version=2,
    what="a model",
    file=CLASSIFIER,
    entries={
        "method": str,
        "parameters": dict,
        "state": dict,
        "classifier": (dict, type(None)),
        "versions": dict,
    },
    tensors="weights",
    labels=(("classifier", "encoder", "name"), ("state", "encoder_", "value", "name")),
    advice=" Copy or save the model again.",
    edits=" To rename classes, load an unmodified copy, set its class_names and save it.",
)


def save_model(folder: str | Path, method: Method, description: Description | None = None) -> Path:
    """Write a fitted method, and the entries of its :class:`~modalign.Classifier`, to ``folder``.

    An existing model in ``folder`` is replaced; any other non-empty folder is refused.
    """
    folder = local_path(folder)
    check_destination(folder)
    entries, tensors = encode_method(method)
    described = None if description is None else plain(description.card())
    if described is not None:
        try:
            Description.read(described, method)
        except InputError as error:
            raise InputError(f"Expected a model that can be loaded again, but {error}") from None
    foreign = packages_of(entries)
    entries |= {
        "classifier": described,
        "versions": versions() | ({"methods": foreign} if foreign else {}),
    }
    FORMAT.write(folder, entries, save_tensors(tensors))
    return folder


def check_destination(folder: str | Path) -> None:
    """Raise unless a model can be saved in ``folder``; to be called before a long computation."""
    FORMAT.check_folder(folder)


def load_model(folder: str | Path) -> tuple[Method, Description | None]:
    """Read what :func:`save_model` wrote.

    Everything is checked before it is used: the card against its digest and its schema, the weights against their hash
    and the card, the method by scoring a few vectors, and the description against the method.

    Raises
    ------
    UnknownNameError
        There is no such folder; suggests the nearest one with a model.
    InputError
        The model is damaged, was edited, is of a later version of the format, does not fit together, is of an earlier
        version of a method that computed other scores, or needs a method of a package that is not installed.

    Warns
    -----
    UserWarning
        A later version of the library wrote the model.
    """
    folder = local_path(folder)
    _require_card(folder)
    card = FORMAT.read(folder)
    data = FORMAT.read_tensors(folder, card)
    _note_versions(folder, card["versions"])
    _require_methods(folder, card)
    try:
        card = upgraded(card)
    except InputError as error:
        raise InputError(f"The model in '{folder}' cannot be used: {error}") from None
    try:
        method = _method(card, data)
        return method, None if card["classifier"] is None else Description.read(card["classifier"], method)
    except InputError as error:
        raise InputError(f"The model in '{folder}' cannot be used: {error}{FORMAT.advice}") from None


def _method(card: Mapping[str, Any], data: bytes) -> Method:
    """Return the checked method of a card and its weights; an InputError states what does not fit."""
    try:
        tensors = load_tensors(data)
    except Exception as error:  # errors of the parser, and of NumPy about unknown types
        raise InputError(f"its weights are not a safetensors file: {' '.join(str(error).split())[:120]}.") from None
    return restore_method(card, tensors)


def _require_card(folder: Path) -> None:
    require_path(folder, "a model folder")
    try:
        if (folder / FORMAT.file).is_file():
            return
    except (OSError, ValueError) as error:  # too long, with a null byte, or without permission
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Expected a model folder, '{folder}' cannot be read: {reason}.") from None
    if not folder.is_dir():
        siblings = (
            [p.name for p in folder.parent.glob("*/") if (p / FORMAT.file).exists()] if folder.parent.is_dir() else []
        )
        raise UnknownNameError("model folder", folder.name, siblings, f"The whole path is '{folder.absolute()}'.")
    raise InputError(f"Expected a model folder with a '{FORMAT.file}', '{folder}' has none.")


def _require_methods(folder: Path, card: Mapping[str, Any]) -> None:
    """Raise unless the methods of other packages that a model needs are installed. Nothing is downloaded.

    A name that the card does not ascribe to a package is looked up when the method is restored.
    """
    foreign = card["versions"].get("methods")
    for name, package in foreign.items() if isinstance(foreign, dict) else ():
        if is_known(name):
            method_class(name)  # raises where it cannot be imported
            continue
        if isinstance(package, str) and _PACKAGE.fullmatch(package):
            need = f" of the package {package}, which is not installed or lacks it; install it if you trust it"
        else:
            need = ", which no installed package has; call modalign.register_method(name, class) first"
        raise InputError(f"The model in '{folder}' needs the method '{name[:80]}'{need}.")


def _note_versions(folder: Path, saved_with: Mapping[str, Any]) -> None:
    """Warn if a later version of the library wrote a model, whose new entries this version ignores."""
    theirs, ours = saved_with.get("modalign"), versions()["modalign"]
    if isinstance(theirs, str) and _release(theirs) > _release(ours):
        warnings.warn(
            f"The model in '{folder}' was saved by modalign {theirs[:20]}, this is {ours}; update if it answers "
            "differently.",
            stacklevel=stacklevel_outside(),
        )


def _release(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d{1,9}", version.partition("+")[0])[:3]]
