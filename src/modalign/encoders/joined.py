"""Several encoders side by side: what a network that only ever saw images knows, beside one that knows words."""

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
    """Encoders whose vectors are put beside each other; made by ``load_encoder("dinov2+clip")``.

    An image is the concatenation of its unit vectors, divided by √V for V encoders so that it has length one.
    Sentences are encoded by the last one that reads them, in that encoder's own space: such vectors cannot be compared
    with the joined ones, but methods that learn a map between the spaces (such as GPUA) need both.

    Attributes
    ----------
    parts : sequence of Encoder
        The encoders, in the order of their columns.
    widths : tuple of int
        Columns of each.
    language : Encoder or None
        The part that reads sentences, None if none does.
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
        """The names of the parts with a plus between them."""
        return "+".join(part.name for part in self.parts)

    @property
    def has_text(self) -> bool:
        """Whether a part reads sentences."""
        return self.language is not None

    @property
    def logit_scale(self) -> float | None:
        """That of the part that reads sentences."""
        return self.spec.logit_scale

    def as_of(self, version: int) -> JoinedEncoder:
        """The same parts with the preprocessing of an earlier version of the library."""
        return JoinedEncoder([part.as_of(version) for part in self.parts])

    def embed_images(self, source: object, **options: Any) -> Features:
        """The parts' vectors beside each other; ``options`` are those of :meth:`Encoder.embed_images`, but tokens.

        An image that one of the parts cannot use is left out by all of them.
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
        """Sentences in the space of :attr:`language`."""
        if self.language is None:
            raise InputError(f"None of the encoders '{self.name}' has a text tower; join one that does.")
        return self.language.embed_texts(texts, class_names, **options)

    def part_of(self, features: Features, part: Encoder | JoinedEncoder) -> Features:
        """The columns of one part, or of several joined in the same order, as that would have embedded the images."""
        own = part.parts if isinstance(part, JoinedEncoder) else (part,)
        first = sum(self.widths[: self.parts.index(own[0])])
        scale = np.float32(np.sqrt(len(self.parts) / len(own)))
        vectors = features.vectors[:, first : first + part.spec.dim] * scale
        return replace(features, vectors=vectors, spec=part.spec)

    def __repr__(self) -> str:
        return f"JoinedEncoder({', '.join(map(repr, self.parts))})"
