"""Concatenation of several encoders, for example a vision-only and a vision-language encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modalign.core.errors import InputError
from modalign.core.features import ClassText, EncoderSpec, Features
from modalign.encoders.base import Encoder


class JoinedEncoder:
    """Concatenation of the vectors of several encoders; created by ``load_encoder("dinov2+clip")``.

    The vector of an image is the concatenation of its unit vectors divided by √V for V encoders, which has unit length.
    Sentences are embedded by the last encoder with a text tower, in its own space. They cannot be compared with the
    concatenated vectors; methods that learn a map between the spaces (such as GPUA) use both.

    Attributes
    ----------
    parts : sequence of Encoder
        The encoders, in the order of their columns.
    widths : tuple of int
        Columns of each.
    language : Encoder or None
        Encoder of the sentences, or None.
    """

    def __init__(self, parts: Sequence[Encoder]) -> None:
        self.parts = tuple(parts)
        self.widths = tuple(part.spec.dim for part in parts)
        self.language = next((part for part in reversed(self.parts) if part.has_text), None)
        prints = [part.spec.fingerprint for part in parts]
        if len(set(prints)) < len(prints):
            raise InputError(f"Expected different encoders to join, got '{self.name}'.")
        kinds = list(dict.fromkeys(part.spec.dtype for part in parts))
        self.spec = EncoderSpec(
            name=self.name,
            fingerprint=hashlib.sha256("+".join(prints).encode()).hexdigest(),
            dim=sum(self.widths),
            dtype=kinds[0] if len(kinds) == 1 else "auto",
            logit_scale=self.language.spec.logit_scale if self.language else None,
        )

    @property
    def name(self) -> str:
        """Names of the parts, joined by plus signs."""
        return "+".join(part.name for part in self.parts)

    @property
    def has_text(self) -> bool:
        """Whether a part has a text tower."""
        return self.language is not None

    @property
    def logit_scale(self) -> float | None:
        """Inverse temperature of the part with a text tower."""
        return self.spec.logit_scale

    def as_of(self, version: int) -> JoinedEncoder:
        """Return the encoder with the preprocessing of an earlier version of the library."""
        return JoinedEncoder([part.as_of(version) for part in self.parts])

    def embed_images(self, source: object, **options: Any) -> Features:
        """Embed images; ``options`` are those of :meth:`Encoder.embed_images` except ``tokens``.

        Images that one of the parts cannot use are left out.
        """
        if options.get("tokens"):
            raise InputError(f"Expected one encoder for patch tokens, got '{self.name}'; load the one you need.")
        found = [part.embed_images(source, **options) for part in self.parts]
        everywhere = set.intersection(*(set(features.ids) for features in found))
        kept = [features.select([i for i, name in enumerate(features.ids) if name in everywhere]) for features in found]
        vectors = np.concatenate([features.vectors for features in kept], axis=1) / np.sqrt(len(kept))
        quarantined = tuple(dict.fromkeys(q for features in found for q in features.quarantined))
        return replace(kept[0], vectors=vectors.astype(np.float32), spec=self.spec, quarantined=quarantined)

    def embed_texts(self, texts: Any, class_names: Sequence[str] | None = None, **options: Any) -> ClassText:
        """Embed sentences in the space of :attr:`language`."""
        if self.language is None:
            raise InputError(f"None of the encoders '{self.name}' has a text tower; join one that does.")
        return self.language.embed_texts(texts, class_names, **options)

    def part_of(self, features: Features, part: Encoder | JoinedEncoder) -> Features:
        """Return the columns of one part, or of several in the same order, equal to what that part would compute."""
        own = part.parts if isinstance(part, JoinedEncoder) else (part,)
        first = sum(self.widths[: self.parts.index(own[0])])
        scale = np.float32(np.sqrt(len(self.parts) / len(own)))
        vectors = features.vectors[:, first : first + part.spec.dim] * scale
        return replace(features, vectors=vectors, spec=part.spec)

    def __repr__(self) -> str:
        return f"JoinedEncoder({', '.join(map(repr, self.parts))})"
