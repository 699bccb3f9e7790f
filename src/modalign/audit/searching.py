"""Search: the images nearest to a sentence or to another image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from modalign.core.arrays import is_finite
from modalign.core.display import SHOWN, html_table, shorten_repr, text_table
from modalign.core.encoder_spec import EncoderSpec
from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED, Features
from modalign.data.inventory import has_image_suffix
from modalign.data.items import load_with_sets
from modalign.encoders.base import Encoder
from modalign.encoders.joined import JoinedEncoder
from modalign.encoders.loading import find_encoder, load_encoder
from modalign.linalg.inputs import as_single
from modalign.linalg.similarity import top_k, unit


@dataclass(frozen=True)
class Hit:
    """One image that was found.

    Attributes
    ----------
    id : str
        The image.
    cosine : float
        Of its vector with that of the query.
    label : str
        Its class, empty where that is unknown.
    """

    id: str
    cosine: float
    label: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """Result of a search, the nearest images first.

    Attributes
    ----------
    query : str
        The sentence, or the name of the image.
    by : {"text", "image"}
        Kind of the query.
    hits : tuple of Hit
        Images.
    images : int
        Number of searched images.
    spec : EncoderSpec or None
        The encoder.
    """

    query: str
    by: str
    hits: tuple[Hit, ...]
    images: int
    spec: EncoderSpec | None

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and a row per image."""
        rows = [[str(i), f"{hit.cosine:.4f}", hit.id, hit.label] for i, hit in enumerate(self.hits, 1)]
        return ["rank", "cosine", "image", "label"], rows

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "query": self.query,
            "by": self.by,
            "images": self.images,
            "encoder": None if self.spec is None else {"name": self.spec.name, "fingerprint": self.spec.fingerprint},
            "hits": [vars(hit) for hit in self.hits],
        }

    def __repr__(self) -> str:
        return f"SearchResult({shorten_repr(self.query)}: {len(self.hits)} of {self.images} images)"

    def __str__(self) -> str:
        return text_table(*self.table)

    def _repr_html_(self) -> str:
        header, rows = self.table
        return html_table(self.query, header, rows[:SHOWN], total=len(rows))


def search_images(
    source: Any, query: str | os.PathLike[str] | Image.Image, *, top: int = 20, encoder: str | Encoder | None = None
) -> SearchResult:
    r"""The images whose vectors have the largest cosine with a sentence or an image.

    .. math:: s_i = \hat x_i^\top \hat q

    Parameters
    ----------
    source : object
        Any source of :func:`~modalign.load_items`, or :class:`~modalign.Features`.
    query : str, os.PathLike or PIL.Image.Image
        A sentence, such as "a photo of a red car."; or a picture, or the path of an image file.
    top : int, default=20
        Maximum number of images to return.
    encoder : str, Encoder or None, default=None
        Encoder of the images and the query. None is ``"tiny"``, or for :class:`~modalign.Features` their encoder, which
        is searched on this machine.

    Returns
    -------
    SearchResult
        All pairs are compared: O(n d) after the images are embedded.

    Raises
    ------
    InputError
        A sentence for an encoder without text, vectors of an unknown encoder, or a query that cannot be read.

    Examples
    --------
    >>> from modalign.audit.searching import search_images
    >>> from modalign.data.digits import load_digits
    >>> found = search_images(load_digits().select(range(200)), "a photo of the digit three.", top=10)
    >>> {hit.label for hit in found.hits}
    {'three'}
    """
    if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 1:
        raise InputError(f"Expected {argument('top')} of at least 1, got {top!r}.")
    by = "image" if _is_image(query) else "text"
    if not isinstance(source, Features):
        source, _ = load_with_sets(source)
    loaded = _encoder_of(source, encoder)
    if by == "text" and (not loaded.has_text or isinstance(loaded, JoinedEncoder)):
        raise InputError(
            f"Expected an encoder of images and text for a sentence, got '{loaded.name}'; give an image, or another "
            f"{argument('encoder')}."
        )
    if by == "text":
        vector = loaded.embed_texts([[str(query)]], ["query"]).vectors.reshape(-1)
    else:
        vector = loaded.embed_images([query]).vectors[0]
    features = source if isinstance(source, Features) else loaded.embed_images(source)
    if features.spec is not None:
        loaded.spec.require(features.spec)
    vectors = as_single(features.vectors)
    require_finite_vectors(features)
    if vectors.shape[1] != len(vector):
        raise InputError(
            f"Expected vectors of width {len(vector)} of the encoder '{loaded.name}', got width {vectors.shape[1]}; "
            f"give the {argument('encoder')} that made them."
        )
    cosines = unit(vectors) @ unit(torch.from_numpy(vector.copy()))
    best = top_k(cosines, min(int(top), len(features)))
    hits = [
        Hit(features.ids[i], value, _label(features, i))
        for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    name = str(query) if isinstance(query, (str, os.PathLike)) else "a picture"
    return SearchResult(name, by, tuple(hits), len(features), features.spec)


def require_finite_vectors(features: Features) -> None:
    """Raise unless all numbers of all vectors are finite; no copy is made."""
    if not is_finite(features.vectors):
        raise InputError("Expected finite vectors of images, got NaN or infinity; embed the images again.")


def _is_image(query: object) -> bool:
    """Whether a query is a picture or the path of one; a path with the ending of an image must exist."""
    if isinstance(query, Image.Image):
        return True
    if not isinstance(query, (str, os.PathLike)) or not str(query).strip():
        raise InputError(f"Expected a sentence, a picture or the path of an image, got {query!r:.60}.")
    if isinstance(query, os.PathLike) or has_image_suffix(query):
        if not Path(query).is_file():
            raise InputError(f"Expected an image, '{query}' does not exist.")
        return True
    return False


def _encoder_of(source: Any, encoder: str | Encoder | None) -> Encoder | JoinedEncoder:
    if isinstance(encoder, str) or (encoder is None and not isinstance(source, Features)):
        return load_encoder(encoder or "tiny")
    if encoder is not None:
        return encoder
    if source.spec is None:
        raise InputError(f"Expected {argument('encoder')} with vectors of an unknown encoder, got none.")
    return find_encoder(source.spec)


def _label(features: Features, i: int) -> str:
    label = int(features.labels[i])
    if label == UNLABELED:
        return ""
    return features.class_names[label] if features.class_names else str(label)
