"""Multi-label classifiers as files: a JSON card, and the numbers of all classes in one safetensors file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from modalign.core.arrays import is_number
from modalign.core.card_names import MULTI_LABEL
from modalign.core.encoder_spec import EncoderSpec
from modalign.core.errors import InputError
from modalign.core.files import CardFormat, local_path
from modalign.core.record import plain, versions
from modalign.encoders import find_encoder, load_encoder
from modalign.methods import method_class
from modalign.methods.contract.vectors import VectorMethod
from modalign.methods.multi_label.class_decision import ClassDecision
from modalign.methods.multi_label.one_against_rest import OneAgainstRest
from modalign.model.multi_label.multi_label_classifier import MultiLabelClassifier
from modalign.model.persistence.checks import check_class_names
from modalign.model.persistence.state import encode_method, restore_method

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder
    from modalign.encoders.joined import JoinedEncoder

FORMAT = CardFormat(
    family="modalign-multi-label",
    version=2,
    what="a multi-label model",
    file=MULTI_LABEL,
    entries={
        "encoder": dict,
        "method": str,
        "class_names": list,
        "decisions": list,
        "members": list,
        "fitted_on": list,
        "record": dict,
        "versions": dict,
    },
    tensors="weights",
    labels=(("encoder", "name"),),
    advice=" Copy or save the model again.",
)
_HASH = re.compile(r"[0-9a-f]{16}|")


def save_multi_label(classifier: MultiLabelClassifier, folder: str | Path) -> Path:
    """Write a classifier into ``folder``; one that is there is replaced, any other non-empty folder refused."""
    folder = local_path(folder)
    FORMAT.check_folder(folder)
    members: list[dict[str, Any]] = []
    tensors: dict[str, np.ndarray] = {}
    for k, member in enumerate(classifier.model.members_):
        entries, own = encode_method(member)
        members.append(entries)
        tensors |= {f"{k}/{name}": array for name, array in own.items()}
    entries = {
        "encoder": asdict(classifier.encoder.spec),
        "method": members[0]["method"] if members else "",
        "class_names": list(classifier.class_names),
        "decisions": [asdict(decision) for decision in classifier.model.decisions_],
        "members": members,
        "fitted_on": sorted(classifier.fitted_on),
        "record": plain(classifier.record),
        "versions": versions(),
    }
    FORMAT.write(folder, entries, save_tensors(tensors))
    return folder


def check_multi_label_folder(folder: str | Path) -> None:
    """Raise unless a classifier can be saved in ``folder``; to be called before a long computation."""
    FORMAT.check_folder(folder)


def load_multi_label(
    folder: str | Path, *, encoder: str | Path | Encoder | JoinedEncoder | None = None
) -> MultiLabelClassifier:
    """Read what :func:`save_multi_label` wrote; everything is checked before it is used.

    Raises
    ------
    InputError
        The files are damaged or do not fit together.
    EncoderMismatchError
        Another encoder than that of the classifier.
    """
    folder = local_path(folder)
    card = FORMAT.read(folder)
    data = FORMAT.read_tensors(folder, card)
    try:
        spec = EncoderSpec.read(card["encoder"])
        model = _model(card, load_tensors(data), spec)
        if not all(isinstance(h, str) and _HASH.fullmatch(h) for h in card["fitted_on"]):
            raise InputError("its list of images that it was fitted on is not one of hashes.")
    except InputError as error:
        raise InputError(f"The model in '{folder}' cannot be used: {error}{FORMAT.advice}") from None
    except Exception as error:  # of the parser of weights
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"The model in '{folder}' cannot be used: {reason}.{FORMAT.advice}") from None
    if encoder is None:
        encoder = find_encoder(spec)
    elif isinstance(encoder, (str, os.PathLike)):
        encoder = load_encoder(encoder, dtype=spec.dtype)
    spec.require(encoder.spec)
    return MultiLabelClassifier(encoder, model, frozenset(card["fitted_on"]), dict(card["record"]))


def _model(card: Mapping[str, Any], tensors: Mapping[str, np.ndarray], spec: EncoderSpec) -> OneAgainstRest:
    names = card["class_names"]
    check_class_names(names, len(card["members"]))
    if len(card["decisions"]) != len(names):
        raise InputError("it has another number of thresholds than of classes.")
    model = OneAgainstRest(_unfitted(card["method"]))
    for k, entries in enumerate(card["members"]):
        own = {name.removeprefix(f"{k}/"): array for name, array in tensors.items() if name.startswith(f"{k}/")}
        member = restore_method(entries, own)
        if not isinstance(member, VectorMethod) or len(member.classes_) != 2 or member.n_features_in_ != spec.dim:
            raise InputError(f"its model of class {k} is not one of two classes for its encoder.")
        model.members_.append(member)
    model.decisions_ = [_decision(entry) for entry in card["decisions"]]
    model.class_names_ = tuple(names)
    return model


def _unfitted(name: str) -> VectorMethod:
    cls = method_class(name)
    if not issubclass(cls, VectorMethod):
        raise InputError(f"its method '{name[:40]}' is not one on vectors.")
    return cls()


def _decision(entry: Any) -> ClassDecision:
    kinds = {"slope": float, "offset": float, "threshold": float, "calibrated": bool}
    if not isinstance(entry, dict) or set(entry) != set(kinds):
        raise InputError("its calibration is not understood.")
    numbers = [entry[name] for name in ("slope", "offset", "threshold")]
    sound = all(map(is_number, numbers))
    if not sound or numbers[0] <= 0 or not 0 <= numbers[2] <= 1 or not isinstance(entry["calibrated"], bool):
        raise InputError("its calibration is not understood.")
    slope, offset, threshold = map(float, numbers)
    return ClassDecision(slope, offset, threshold, entry["calibrated"])
