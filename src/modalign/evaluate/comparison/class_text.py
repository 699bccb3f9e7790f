"""The class text of a comparison: given, from a file, or embedded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modalign.core.errors import InputError, ModalignError, argument
from modalign.core.features import ClassText, EncoderSpec
from modalign.core.files import read_npz
from modalign.encoders import find_encoder, load_encoder

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder
    from modalign.encoders.joined import JoinedEncoder

TextSource = ClassText | np.ndarray | str | Path | bool | None


def load_class_text(text: TextSource) -> TextSource:
    """``text``, read if it is a file: class text if the file names its rows, else an array."""
    if not isinstance(text, (str, Path)):
        return text
    arrays: dict[str, Any] = read_npz(text, "a file of text vectors (.npz)")  # ClassText checks their types
    vectors = next((arrays[key] for key in ("vectors", "text") if key in arrays), None)
    if vectors is None:
        raise InputError(f"Expected an array 'vectors' or 'text' in '{text}', got {sorted(arrays)}.")
    names = next((arrays[key] for key in ("class_names", "text_names") if key in arrays), None)
    return vectors if names is None else ClassText(vectors, names)


def require_names(text: TextSource) -> None:
    """Raise if the rows of class text have no names and the classes have no given order."""
    if isinstance(text, np.ndarray):
        raise InputError(
            "Expected class text that names its rows, got an array, whose rows could be of any class; give ClassText "
            f"with class_names, or {argument('classes')} in the order of the rows."
        )


def class_text(
    text: TextSource,
    names: tuple[str, ...],
    reader: Encoder | JoinedEncoder | None,
    encoder: Any,
    spec: EncoderSpec | None,
    lines: list[list[str]],
    device: str,
) -> ClassText | None:
    """Class text in the order of ``names``: given, or from the encoder that the images came from."""
    if text is False:
        return None
    if isinstance(text, np.ndarray):
        if len(text) != len(names):
            raise InputError(f"Expected one row of text for each of the {len(names)} classes, got {len(text)}.")
        text = ClassText(text, names)
    if isinstance(text, ClassText):
        return text.select(names)
    if reader is None:
        try:
            if encoder is not None:
                reader = load_encoder(encoder, device=device, dtype=spec.dtype if spec else "auto")
            elif spec is not None:
                reader = find_encoder(spec, device=device)
        except ModalignError as error:
            raise InputError(
                f"The classes have no text vectors yet: {error} "
                f"Or give {argument('text')}, or {argument('text', 'False')} to compare without."
            ) from None
        if reader is not None and spec is not None:
            reader.spec.require(spec)
    if reader is None or not reader.has_text:
        return None
    return reader.embed_texts(lines, class_names=names)
