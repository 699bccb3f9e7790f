"""Identity of the encoder of a set of vectors, stored with them and compared before vectors are combined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from modalign.core.errors import EncoderMismatchError, InputError

_WIDEST = 2**24  # numbers in a vector


@dataclass(frozen=True)
class EncoderSpec:
    """Identity of an encoder. Encoders with equal ``fingerprint`` compute the same vector for the same image.

    Attributes
    ----------
    name : str
        Argument of :func:`modalign.load_encoder`, for display; of a folder, its name without the path.
    fingerprint : str
        SHA-256 over weights, preprocessing and compute type.
    dim : int
        Width d of the vectors.
    dtype : str, default="float32"
        Data type of the computation, such as ``"bfloat16"``.
    logit_scale : float or None, default=None
        The trained inverse temperature of a vision-language model; None for a vision-only one.

    Examples
    --------
    >>> import modalign as ma
    >>> spec = ma.load_encoder("tiny").spec
    >>> spec.name, spec.dim
    ('tiny', 128)
    """

    name: str
    fingerprint: str
    dim: int
    dtype: str = "float32"
    logit_scale: float | None = None

    @classmethod
    def read(cls, entry: object) -> EncoderSpec:
        """From an entry of a file.

        Raises
        ------
        InputError
            A field is missing, or its value is invalid.
        """
        if not isinstance(entry, dict) or not _is_sound(entry):
            raise InputError(
                f"Expected the name, fingerprint, dim, dtype and logit_scale of an encoder, got {entry!r:.200}."
            )
        return cls(**entry)

    def require(self, other: EncoderSpec | None) -> None:
        """Raise unless ``other`` is absent or the same encoder."""
        if other is not None and other.fingerprint != self.fingerprint:
            raise EncoderMismatchError(
                f"Expected features of encoder '{self.name}' ({self.fingerprint[:12]}), got '{other.name}' "
                f"({other.fingerprint[:12]}); embed the images with the encoder that the model was fitted on."
            )


def require_spec(spec: object) -> None:
    """Raise unless it is an :class:`EncoderSpec` or None."""
    if not isinstance(spec, EncoderSpec | None):
        raise InputError(f"Expected spec as the EncoderSpec of the encoder, got {type(spec).__name__}.")


def _is_sound(entry: dict[str, Any]) -> bool:
    """Whether the entry has the fields of an encoder, with values that one can have."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "name": str,
        "fingerprint": str,
        "dim": int,
        "dtype": str,
        "logit_scale": (int, float, type(None)),
    }
    return (
        {"name", "fingerprint", "dim"} <= set(entry) <= set(kinds)
        and all(isinstance(v, kinds[k]) and not isinstance(v, bool) for k, v in entry.items())
        and bool(entry["name"].strip())
        and bool(entry["fingerprint"])
        and 0 < entry["dim"] <= _WIDEST
        and (entry.get("logit_scale") is None or 0 < entry["logit_scale"] < math.inf)
    )
