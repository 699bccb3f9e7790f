"""Fitted models as files: one safetensors file for the numbers, one JSON card for everything else.

Nothing in either file is code. The card is the commit point: the weights are written under a name that holds their own
hash, then the card that names them replaces the old one in a single rename, so a reader sees the old model or the new
one, never half of each.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from modalign.errors import InputError, UnknownNameError
from modalign.features import EncoderSpec
from modalign.files import make_folder, read_json, require_own_folder, write
from modalign.methods import ALL_METHODS, method_class
from modalign.methods.parameters import check_parameters
from modalign.record import plain, versions

if TYPE_CHECKING:
    from modalign.methods.base import VectorMethod
    from modalign.methods.tower import TowerMethod

    Method = VectorMethod | TowerMethod

FORMAT = "modalign-model/1"
CARD = "card.json"
MAX_CARD_BYTES = 16 * 2**20
_CARD_KEYS = {
    "format": str,
    "method": str,
    "parameters": dict,
    "state": dict,
    "classifier": (dict, type(None)),
    "weights": str,
    "versions": dict,
}
_WEIGHTS_NAME = re.compile(r"weights-[0-9a-f]{64}\.safetensors")


def save_model(folder: str | Path, method: Method, classifier: dict[str, Any] | None = None) -> Path:
    """Write a fitted method, and what a :class:`~modalign.Classifier` adds to it, into ``folder``.

    An existing model in ``folder`` is replaced; any other non-empty folder is refused.
    """
    folder = Path(folder)
    check_destination(folder)
    state, tensors = _encode_state(method)
    data = save_tensors(tensors)
    card = {
        "format": FORMAT,
        "method": _method_name(method),
        "parameters": {name: _pack(value) for name, value in method.get_params(deep=False).items()},
        "state": state,
        "classifier": classifier,
        "weights": f"weights-{hashlib.sha256(data).hexdigest()}.safetensors",
        "versions": versions(),
    }
    text = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False)
    make_folder(folder)
    write(folder / card["weights"], data)
    write(folder / CARD, text.encode())
    for old in folder.iterdir():
        if _WEIGHTS_NAME.fullmatch(old.name) and old.name != card["weights"]:
            with suppress(OSError):  # the model is there; what is left over is removed by the next save
                old.unlink()
    return folder


def check_destination(folder: Path) -> None:
    """Raise unless a model may be saved in ``folder``; asked before long work, so that its result has a place."""
    require_own_folder(folder, "a model", CARD, lambda name: bool(_WEIGHTS_NAME.fullmatch(name)))


def load_model(folder: str | Path) -> tuple[Method, dict[str, Any] | None]:
    """Read what :func:`save_model` wrote, after checking it against the schema and the hash of its weights."""
    folder = Path(folder)
    card = _read_card(folder)
    path = folder / card["weights"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Expected the weights '{path.name}' beside the card in '{folder}': {error.strerror}."
        ) from error
    if f"weights-{hashlib.sha256(data).hexdigest()}.safetensors" != path.name:
        raise InputError(
            f"The weights of '{folder}' do not match their hash; the file is damaged, save the model again."
        )
    try:
        tensors = load_tensors(data)
    except safetensors.SafetensorError as error:
        raise InputError(f"Expected a safetensors file, '{path}' is not one: {error}.") from error
    cls = method_class(card["method"])
    try:
        method = cls(**{name: _unpack(value) for name, value in card["parameters"].items()})
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The card of '{folder}' has parameters that {cls.__name__} does not know: {error}."
        ) from error
    check_parameters(method)
    for name, entry in card["state"].items():
        setattr(method, name, _decode(folder, name, entry, tensors))
    return method, card["classifier"]


def _method_name(method: Method) -> str:
    for name in ALL_METHODS:
        if type(method) is method_class(name):
            return name
    raise InputError(f"Expected a method of this library, got {type(method).__name__}; only those can be loaded again.")


def _encode_state(method: Method) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a fitted method knows, as entries of the card and as named arrays."""
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
            state[name] = {
                "kind": "names",
                "value": plain(value, strict=True),
                "object": value.dtype == object,
            }
        elif isinstance(value, EncoderSpec):
            state[name] = {"kind": "encoder", "value": vars(value)}
        else:
            state[name] = {"kind": "plain", "value": plain(value, strict=True)}
    if not state:
        raise InputError(f"Expected a fitted {type(method).__name__}, this one is not; call fit first.")
    return state, tensors


def _pack(value: Any) -> Any:
    """A hyper-parameter for the card; JSON knows no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return plain(value, strict=True)


def _unpack(value: Any) -> Any:
    return float(value["float"]) if isinstance(value, dict) and set(value) == {"float"} else value


def _decode(folder: Path, name: str, entry: Any, tensors: dict[str, np.ndarray]) -> Any:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    valued = isinstance(entry, dict) and "value" in entry
    known = ("tensors", "names", "encoder", "plain") if valued else ("tensor", "array")
    if not re.fullmatch(r"[A-Za-z]\w*_", name) or kind not in known:
        raise InputError(
            f"The card of '{folder}' has a state entry '{name}' that is not understood; it may be damaged."
        )
    if kind in ("tensor", "array"):
        if name not in tensors:
            raise InputError(f"The weights of '{folder}' lack '{name}', which the card names.")
        return torch.from_numpy(tensors[name]) if kind == "tensor" else tensors[name]
    if kind == "tensors":
        keys = entry["value"] if isinstance(entry["value"], list) else []
        lacking = [str(key) for key in keys if f"{name}/{key}" not in tensors]
        if lacking or not keys:
            raise InputError(f"The weights of '{folder}' lack '{name}/{(lacking or ['…'])[0]}', which the card names.")
        return {key: torch.from_numpy(tensors[f"{name}/{key}"]) for key in keys}
    if kind == "names":
        return np.array(entry["value"], dtype=object if entry.get("object") else np.str_)
    if kind == "encoder":
        try:
            return EncoderSpec(**entry["value"])
        except TypeError as error:
            raise InputError(
                f"The card of '{folder}' describes its encoder in a way not understood: {error}."
            ) from error
    return entry["value"]


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    if not path.is_file():
        if not folder.is_dir():
            siblings = (
                [p.name for p in folder.parent.glob("*/") if (p / CARD).exists()] if folder.parent.is_dir() else []
            )
            raise UnknownNameError("model folder", folder.name, siblings)
        raise InputError(f"Expected a model folder with a '{CARD}', '{folder}' has none.")
    card = read_json(path, "a card", MAX_CARD_BYTES)
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        got = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise InputError(f"Expected a card of format '{FORMAT}' in '{path}', got {got!r}.")
    if set(card) != set(_CARD_KEYS):
        odd = sorted(set(card) ^ set(_CARD_KEYS))
        raise InputError(f"The card '{path}' has missing or unknown entries: {', '.join(odd)}.")
    for key, kind in _CARD_KEYS.items():
        if not isinstance(card[key], kind):
            raise InputError(f"The entry '{key}' of the card '{path}' has the wrong type: {type(card[key]).__name__}.")
    if not _WEIGHTS_NAME.fullmatch(card["weights"]):
        raise InputError(f"The card '{path}' names weights outside its folder: '{card['weights']}'.")
    return card
