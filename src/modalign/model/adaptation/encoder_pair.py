"""Encoders of an adaptation: for prediction and, if needed, a second one for the text."""

from __future__ import annotations

import os
from dataclasses import dataclass

from modalign.core.errors import InputError, argument
from modalign.core.features import Features
from modalign.data.items import Items
from modalign.encoders import load_encoder
from modalign.encoders.base import Encoder
from modalign.encoders.clip import ClipEncoder
from modalign.encoders.joined import JoinedEncoder
from modalign.methods.contract.vectors import VectorMethod
from modalign.model.scoring import embed_images, require_clip, require_one


@dataclass(frozen=True)
class EncoderPair:
    """The encoder kept for prediction and, if the method needs one, the vision-language encoder used in training.

    Attributes
    ----------
    encoder : Encoder or JoinedEncoder
        Encoder of the images.
    language : Encoder or None
        Encoder of the class text, or None.
    both : JoinedEncoder or None
        Concatenation of both, if they are different.
    """

    encoder: Encoder | JoinedEncoder
    language: Encoder | None
    both: JoinedEncoder | None

    @classmethod
    def open(
        cls,
        encoder: str | Encoder | JoinedEncoder,
        clip_encoder: str | Encoder | None,
        method: VectorMethod,
        device: str,
        crops: int = 0,
    ) -> EncoderPair:
        """Load encoders given by name, check that they suit the method, and join them if both are needed."""
        encoder = load_encoder(encoder, device=device) if isinstance(encoder, (str, os.PathLike)) else encoder
        if not isinstance(encoder, (Encoder, JoinedEncoder)):
            raise InputError(f"Expected {argument('encoder')} as a name, a folder or an encoder, got {encoder!r}.")
        if crops:
            require_one(encoder)
        if clip_encoder is not None:
            if not method.takes_clip_features:
                raise InputError(f"{type(method).__name__} learns in one space; leave out {argument('clip_encoder')}.")
            if isinstance(clip_encoder, str):
                clip_encoder = require_one(
                    load_encoder(clip_encoder, device=device), f"as {argument('clip_encoder')}", "choose one of them"
                )
            if not clip_encoder.has_text:
                raise InputError(
                    f"Expected {argument('clip_encoder')} with a text tower, '{clip_encoder.name}' has none."
                )
            parts = encoder.parts if isinstance(encoder, JoinedEncoder) else (encoder,)
            if clip_encoder.spec.fingerprint not in {part.spec.fingerprint for part in parts}:
                return cls(encoder, clip_encoder, JoinedEncoder([*parts, clip_encoder]))
        if isinstance(encoder, JoinedEncoder) and method.takes_clip_features:
            if method.get_params().get("spaces", ()) is None:
                method.set_params(spaces=list(encoder.widths))
            return cls(encoder, encoder.language, encoder)
        if isinstance(encoder, JoinedEncoder) and encoder.has_text:
            raise InputError(
                f"Expected one encoder, since {type(method).__name__} compares images with class text in one space, "
                f"got '{encoder.name}'; choose one of them, or a method that maps between spaces, such as gpua."
            )
        language = encoder if isinstance(encoder, Encoder) and encoder.has_text else None
        return cls(encoder, language, None)

    def embed(self, items: Items, view: str, crops: int = 0) -> tuple[Features, Features | None]:
        """Embed the images for the classifier and, if text has another space, also in the space of the text."""
        if crops:
            return embed_images(self.encoder, items, crops), None
        if self.both is None or self.language is None:
            return self.encoder.embed_images(items, view=view), None
        features = self.both.embed_images(items, view=view)
        aligned = self.both.part_of(features, self.language)
        return (features if self.both is self.encoder else self.both.part_of(features, self.encoder)), aligned


def trainable_encoder(
    encoder: str | Encoder | JoinedEncoder, clip_encoder: str | Encoder | None, mirror: bool | None, device: str
) -> ClipEncoder:
    """Return the encoder for training: in float32, unless the caller loaded it in another dtype."""
    if clip_encoder is not None or mirror:
        raise InputError(
            f"Methods that learn inside an encoder take neither {argument('clip_encoder')} nor mirrored views; "
            "leave them out."
        )
    encoder = load_encoder(encoder, device=device, dtype="float32") if isinstance(encoder, str) else encoder
    return require_clip(encoder)
