"""Conversion of the learned state of a method to entries of a card and named arrays, and back."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from modalign.core.errors import InputError
from modalign.core.features import EncoderSpec
from modalign.core.record import plain
from modalign.core.renaming import present_names
from modalign.methods import COMPOSED, OTHER_METHODS, method_class, name_of
from modalign.methods.contract.estimators.estimator import Parametrized
from modalign.methods.contract.parameters import check_parameters, former_names
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.persistence.checks import check_restored

_NAME = re.compile(r"[A-Za-z]\w*_")
_FIELDS = {kind: {"kind", "value"} for kind in ("tensors", "encoder", "methods", "plain")}
_FIELDS |= {"tensor": {"kind"}, "array": {"kind"}, "names": {"kind", "value", "object"}}


def encode_method(method: Parametrized) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A fitted method as entries of a card, ``method``, ``parameters`` and ``state``, and named arrays."""
    state, tensors = encode_state(method)
    return {"method": _name_of(method), "parameters": encode_parameters(method), "state": state}, tensors


def restore_method(entries: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Any:
    """The method that :func:`encode_method` described, tried on a few vectors.

    Raises
    ------
    InputError
        The entries, the arrays and the method do not fit each other.
    """
    cls = method_class(entries["method"])
    formerly = former_names(cls)
    try:
        method = cls(**present_names(decode_parameters(entries["parameters"]), formerly, format_name=None))
    except TypeError as error:
        raise InputError(f"it has unknown parameters of {cls.__name__}: {error}.") from None
    check_parameters(method)
    learned = {f"{former.name}_": f"{name}_" for name, former in formerly.items()}  # each hyper-parameter as used
    restore_state(
        method, *({learned.get(key, key): v for key, v in part.items()} for part in (entries["state"], tensors))
    )
    if hasattr(method, "logit_scale") and "logit_scale_" not in vars(method):  # the first cards had it there only
        method.logit_scale_ = method.logit_scale
    if isinstance(method, VectorMethod) and "temperature_" not in vars(method):
        method.temperature_ = 1.0
    check_restored(method)
    return method


def packages_of(entries: Mapping[str, Any]) -> dict[str, str | None]:
    """The methods of other packages among those that a card describes: name → package and version where known."""
    members = [part for entry in entries["state"].values() if entry["kind"] == "methods" for part in entry["value"]]
    names = dict.fromkeys(part["method"] for part in (entries, *members))
    return {name: OTHER_METHODS.package(name) for name in names if name in OTHER_METHODS}


def encode_parameters(method: Parametrized) -> dict[str, Any]:
    """Return the hyper-parameters of a method for the card, without infinities and without folders of paths."""
    return {name: _pack(value) for name, value in method.get_params(deep=False).items()}


def decode_parameters(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`encode_parameters` made of them."""
    return {name: _unpack(value) for name, value in entries.items()}


def encode_state(method: Parametrized) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a fitted method has learned, as entries of the card and as named arrays."""
    state: dict[str, Any] = {}
    tensors: dict[str, np.ndarray] = {}
    for name, value in sorted(vars(method).items()):
        if not name.endswith("_") or name.startswith("_"):
            continue
        if isinstance(value, torch.Tensor):
            tensors[name] = value.detach().cpu().contiguous().numpy()
            state[name] = {"kind": "tensor"}
        elif isinstance(value, dict) and value and all(isinstance(v, torch.Tensor) for v in value.values()):
            tensors |= {f"{name}/{key}": v.detach().cpu().contiguous().numpy() for key, v in value.items()}
            state[name] = {"kind": "tensors", "value": sorted(value)}
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            tensors[name] = np.ascontiguousarray(value)
            state[name] = {"kind": "array"}
        elif isinstance(value, np.ndarray):
            state[name] = {"kind": "names", "value": plain(value, strict=True), "object": value.dtype == object}
        elif isinstance(value, EncoderSpec):
            state[name] = {"kind": "encoder", "value": vars(value)}
        elif isinstance(value, list) and value and all(isinstance(part, Parametrized) for part in value):
            parts = [encode_method(part) for part in value]
            state[name] = {"kind": "methods", "value": [entries for entries, _ in parts]}
            tensors |= {f"{name}/{i}/{key}": array for i, (_, own) in enumerate(parts) for key, array in own.items()}
        else:
            state[name] = {"kind": "plain", "value": plain(value, strict=True)}
    if not state:
        raise InputError(f"Expected a fitted {type(method).__name__}, this one is not; call fit first.")
    return state, tensors


def restore_state(method: Parametrized, state: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Set the learned state of an unfitted method.

    Raises
    ------
    InputError
        An entry is not understood, names an array that is not there or is not finite, or an array has no entry.
    """
    unused = dict(tensors)
    for name, entry in state.items():
        if not _NAME.fullmatch(name) or hasattr(type(method), name):
            raise InputError(f"its state entry '{name[:80]}' is not understood.")
        setattr(method, name, _decode(name, entry, unused))
    if unused:
        raise InputError(f"its weights hold '{min(unused)[:80]}', which the card does not name.")


def _decode(name: str, entry: Any, unused: dict[str, np.ndarray]) -> Any:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if not isinstance(kind, str) or set(entry) != _FIELDS.get(kind):
        raise InputError(f"its state entry '{name}' is not understood.")
    if kind == "array":
        return _take(name, unused)
    if kind == "tensor":
        return torch.from_numpy(_take(name, unused))
    if kind == "tensors":
        keys = entry["value"]
        if not keys or not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise InputError(f"its state entry '{name}' names no weights.")
        return {key: torch.from_numpy(_take(f"{name}/{key}", unused)) for key in keys}
    if kind == "names":
        names = entry["value"]
        if not isinstance(names, list) or not all(isinstance(n, (str, bool, int, float)) for n in names):
            raise InputError(f"its state entry '{name}' holds no names.")
        return np.array(names, dtype=object if entry["object"] else np.str_)
    if kind == "methods":
        return _members(name, entry["value"], unused)
    return EncoderSpec.read(entry["value"]) if kind == "encoder" else entry["value"]


def _members(name: str, entries: Any, unused: dict[str, np.ndarray]) -> list[Any]:
    """Return the methods that a method contains; each of them may contain methods too."""
    found = []
    alone = isinstance(entries, list) and len(entries) == 1
    for i, member in enumerate(entries if isinstance(entries, list) else [None]):
        if not isinstance(member, dict) or set(member) != {"method", "parameters", "state"}:
            raise InputError(f"its state entry '{name}' describes no methods.")
        kinds = {"method": str, "parameters": dict, "state": dict}
        nested = member["method"] in (COMPOSED if alone else {"auto", *COMPOSED})  # what is made of methods itself
        if not all(isinstance(member[key], kind) for key, kind in kinds.items()) or nested:
            raise InputError(f"its state entry '{name}' describes no methods.")
        prefix = f"{name}/{i}/"
        own = {key: unused.pop(key) for key in list(unused) if key.startswith(prefix)}
        found.append(restore_method(member, {key.removeprefix(prefix): array for key, array in own.items()}))
    return found


def _name_of(method: Parametrized) -> str:
    name = name_of(type(method))
    if name is None:
        raise InputError(
            f"Expected a method that has a name, got {type(method).__name__}, which could not be loaded again; "
            "call modalign.register_method(name, class) first."
        )
    return name


def _take(name: str, unused: dict[str, np.ndarray]) -> np.ndarray:
    if name not in unused:
        raise InputError(f"its weights lack '{name[:80]}', which the card names.")
    array = unused.pop(name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"its weights '{name[:80]}' hold NaN or infinity.")
    return array


def _pack(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, str) and os.path.isabs(value):
        return os.path.basename(value)
    return plain(value, strict=True)


def _unpack(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"float"} and value["float"] in ("inf", "-inf"):
        return float(value["float"])
    return value
