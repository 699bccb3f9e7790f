"""Entries that a saved :class:`~modalign.Classifier` adds to its method, and their checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from modalign.core.arrays import is_integer, is_number
from modalign.core.errors import InputError
from modalign.core.features import EncoderSpec
from modalign.linalg.rejection import Confidence, Rejection
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.persistence.checks import check_class_names
from modalign.model.persistence.records import checked_record

if TYPE_CHECKING:
    from modalign.methods.contract.tower import TowerMethod

_HASH = re.compile(r"[0-9a-f]{16}")
_MOST_CROPS = 10_000
_MOST_TEMPERATURE = 1e30  # scores divided by it, or by its inverse, are finite and not all equal to zero


@dataclass(frozen=True)
class Description:
    """The entries of a card other than those of the method; see the attributes of :class:`~modalign.Classifier`."""

    encoder: EncoderSpec
    class_names: tuple[str, ...]
    temperature: float
    fitted_on: frozenset[str]
    rejection: Rejection | None
    record: dict[str, Any]
    crops: int = 0
    validated_on: frozenset[str] | None = None

    def card(self) -> dict[str, Any]:
        """The entries as JSON values."""
        plain = {
            "encoder": asdict(self.encoder),
            "fitted_on": sorted(self.fitted_on),
            "validated_on": None if self.validated_on is None else sorted(self.validated_on),
            "rejection": None if self.rejection is None else asdict(self.rejection),
        }
        return {field.name: getattr(self, field.name) for field in fields(self)} | plain

    @classmethod
    def read(cls, entry: Mapping[str, Any], method: VectorMethod | TowerMethod) -> Description:
        """From a card, checked against the method that it describes.

        Raises
        ------
        InputError
            The end of a sentence: which entry is wrong, and how.
        """
        known = [field.name for field in fields(cls)]
        lacking = set(known) - set(entry) - {"crops", "rejection", "validated_on"}  # not in the first cards
        if odd := sorted(lacking | (set(entry) - set(known))):
            raise InputError(f"it has missing or unknown entries: {', '.join(odd)[:200]}.")
        spec = EncoderSpec.read(entry["encoder"])
        _check_encoder(spec, method)
        check_class_names(entry["class_names"], len(method.classes_))
        if not np.array_equal(method.classes_, np.arange(len(method.classes_))):
            raise InputError("its classes are not numbered from 0.")
        temperature, crops = entry["temperature"], entry.get("crops", 0)
        if not is_number(temperature) or not temperature > 0:
            raise InputError(f"its temperature is {temperature!r:.40}, which is not above 0.")
        if not 1 / _MOST_TEMPERATURE <= temperature <= _MOST_TEMPERATURE:
            raise InputError(f"its temperature is {temperature!r:.40}, at which probabilities cannot be computed.")
        if not is_integer(crops) or not 0 <= crops <= _MOST_CROPS:
            raise InputError(f"its number of crops is {crops!r:.40}.")
        fitted_on, validated_on = _images(entry)
        return cls(
            encoder=spec,
            class_names=tuple(entry["class_names"]),
            temperature=float(temperature),
            fitted_on=fitted_on,
            rejection=_rejection(entry.get("rejection")),
            record=checked_record(entry["record"]),
            crops=crops,
            validated_on=validated_on,
        )


def _check_encoder(spec: EncoderSpec, method: VectorMethod | TowerMethod) -> None:
    if method.encoder_ is not None and method.encoder_.fingerprint != spec.fingerprint:
        raise InputError("it names another encoder than its method learned on.")
    if isinstance(method, VectorMethod) and method.n_features_in_ != spec.dim:
        raise InputError(f"its encoder makes vectors of width {spec.dim}, its method takes {method.n_features_in_}.")


def _images(entry: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str] | None]:
    """The images that were fitted on, and those of them that served for validation."""
    fitted_on, validated_on = entry["fitted_on"], entry.get("validated_on")
    for hashes in (fitted_on, validated_on or []):
        if not isinstance(hashes, list) or not all(isinstance(h, str) and _HASH.fullmatch(h) for h in hashes):
            raise InputError("its list of images that it was fitted on is not one of hashes.")
    if not set(validated_on or []) <= set(fitted_on):
        raise InputError("its validation images are not among its images.")
    return frozenset(fitted_on), None if validated_on is None else frozenset(validated_on)


def _rejection(entry: object) -> Rejection | None:
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise InputError("its rejection threshold is not one.")
    reference, shares = entry.get("reference"), (entry.get("separation"), entry.get("caught"))
    if not (
        {"kind", "reference"} <= set(entry) <= {field.name for field in fields(Rejection)}
        and entry["kind"] in get_args(Confidence)
        and isinstance(reference, list)
        and all(map(is_number, reference))
        and reference == sorted(reference)
        and all(share is None or (is_number(share) and 0 <= share <= 1) for share in shares)
    ):
        raise InputError("its rejection threshold is not one.")
    return Rejection(entry["kind"], tuple(map(float, reference)), *shares)
