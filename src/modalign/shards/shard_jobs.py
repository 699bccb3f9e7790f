"""Jobs for shards: vectors, or predictions of a saved model.

A job consists of a few strings and can be sent to another process, where :meth:`Job.start` loads the encoder or model.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from modalign.core.card_names import CLASSIFIER
from modalign.core.errors import InputError, UndecodableError
from modalign.core.features import Features, Quarantined
from modalign.core.labels import UNLABELED
from modalign.core.part_files import ANSWERS_KIND, FEATURES_KIND
from modalign.core.progress import progress
from modalign.data.blobs import Blob, Identity
from modalign.data.items import Items
from modalign.encoders import load_encoder
from modalign.shards.shard_parts import PartRows, answer_columns, vector_columns

Source = Items | tuple[Features, list[bytes]]
"""Images, or vectors with the hashes of the images that they are of."""
Digests = Callable[[tuple[str, ...]], list[bytes | None]]
"""Ids of images → SHA-256 of their bytes."""
Compute = Callable[[Source], PartRows]
"""Images or vectors → the rows of their part."""


class Job(Protocol):
    """Interface of a job."""

    @property
    def kind(self) -> str: ...

    def __hash__(self) -> int: ...

    def like(self, settings: dict[str, Any]) -> Job:
        """Return the job with "auto" settings replaced by those that another process chose."""

    def start(self) -> tuple[Compute, dict[str, Any]]:
        """Return the function and its settings: all inputs of the rows except the images, as JSON values."""


@dataclass(frozen=True)
class EmbeddingJob:
    """Vectors of images.

    Attributes
    ----------
    encoder, device, view : str
        As for :func:`~modalign.load_encoder` and :meth:`~modalign.encoders.base.Encoder.embed_images`.
    compute_type : str
        Data type of the encoder; "auto" depends on the machine.
    store_type : str
        "float16" or "float32", data type of the written vectors.
    """

    encoder: str = "tiny"
    device: str = "auto"
    view: str = "center"
    compute_type: str = "auto"
    store_type: str = "float16"
    kind = FEATURES_KIND

    def like(self, settings: dict[str, Any]) -> EmbeddingJob:
        """With the compute type of ``settings`` where it is "auto"."""
        if self.compute_type != "auto" or not isinstance(settings.get("encoder"), dict):
            return self
        return replace(self, compute_type=str(settings["encoder"].get("dtype", "auto")))

    def start(self) -> tuple[Compute, dict[str, Any]]:
        """Load the encoder; its settings are the encoder, the view and the type."""
        encoder = load_encoder(self.encoder, device=self.device, dtype=self.compute_type, cache=False)
        dtype = np.dtype(self.store_type)

        def compute(items: Source) -> PartRows:
            if isinstance(items, tuple):
                raise InputError("Expected images to embed, got a folder of vectors; give it to predict or compare.")
            hashed, digests = _hashing(items)
            found = _or_reasons(hashed, lambda: encoder.embed_images(hashed, view=self.view))
            if not isinstance(found, tuple):
                columns = vector_columns(found.vectors.astype(dtype), _names(found.labels, found.class_names))
                parts = found.parts or ("",) * len(found)
                return PartRows(found.ids, digests(found.ids), columns | {"part": list(parts)}, found.quarantined)
            empty = np.empty((0, encoder.spec.dim), dtype)
            return PartRows((), [], vector_columns(empty, []) | {"part": []}, found)

        return compute, {"encoder": asdict(encoder.spec), "view": self.view, "type": self.store_type}


@dataclass(frozen=True)
class AnsweringJob:
    """Predictions of a saved model.

    Attributes
    ----------
    model : str
        Folder of the model.
    encoder : str or None
        Name or folder of its encoder, where it is not found.
    reject : float or None
        Share of known images that may be refused; see :meth:`~modalign.Classifier.predict`.
    """

    model: str
    encoder: str | None = None
    reject: float | None = None
    kind = ANSWERS_KIND

    def like(self, settings: dict[str, Any]) -> AnsweringJob:
        """Return itself: the model determines the data type of its encoder."""
        return self

    def start(self) -> tuple[Compute, dict[str, Any]]:
        """Load the model; its settings are a hash of its card, which names its weights by theirs, and the classes."""
        from modalign.model.classifier import Classifier
        from modalign.model.loading_models import load

        loaded = load(self.model, encoder=self.encoder)
        if not isinstance(loaded, Classifier):
            raise InputError(f"Expected a classifier of one class per image in '{self.model}', got another model.")
        model: Classifier = loaded
        for part in getattr(model.encoder, "parts", [model.encoder]):
            part.store = None  # the parts are the store
        reject = False if self.reject is None else self.reject
        if self.reject is not None:
            model.require_rejection(self.reject)

        def compute(items: Source) -> PartRows:
            found: Any
            if isinstance(items, tuple):
                features, contents = items
                found = model.predict(features, reject=reject) if len(features) else features.quarantined
                digests = _known(features.ids, contents)
            else:
                hashed, digests = _hashing(items)
                found = _or_reasons(hashed, lambda: model.predict(hashed, reject=reject))
            if isinstance(found, tuple):
                empty = np.empty((0, len(model.class_names)))
                return PartRows((), [], answer_columns(empty, [], None if self.reject is None else []), found)
            rejected = None if found.rejected is None else found.rejected.tolist()
            columns = answer_columns(found.probabilities, found.names, rejected)
            return PartRows(found.ids, digests(found.ids), columns, found.quarantined)

        card = hashlib.sha256((Path(self.model) / CLASSIFIER).read_bytes()).hexdigest()
        classes = list(model.class_names)
        return compute, {
            "model": card,
            "encoder": asdict(model.encoder.spec),
            "classes": classes,
            "reject": self.reject,
        }


def settings_text(kind: str, settings: dict[str, Any]) -> str:
    """Settings as the text that names of parts are made of."""
    return json.dumps([kind, settings], sort_keys=True)


class _HashingBlob:
    """Blob that stores the hash of the bytes that were read."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._lock = threading.Lock()
        self.digest: bytes | None = None

    def read(self) -> bytes:
        data = self._blob.read()
        with self._lock:
            if self.digest is None:
                self.digest = hashlib.sha256(data).digest()
        return data

    def identity(self) -> Identity | None:
        return self._blob.identity()

    def size(self) -> int:
        return self._blob.size()


def _hashing(items: Items) -> tuple[Items, Digests]:
    """The same images, and a function that gives SHA-256 of the bytes of those that were read, by id."""
    blobs = [_HashingBlob(blob) for blob in items.blobs]
    place = {name: i for i, name in enumerate(items.ids)}
    return replace(items, blobs=tuple(blobs)), lambda ids: [blobs[place[name]].digest for name in ids]


def _known(names: Sequence[str], hashes: Sequence[bytes]) -> Digests:
    """The function of :func:`_hashing`, of hashes that are known."""
    by_name = dict(zip(names, hashes, strict=True))
    return lambda ids: [by_name[name] for name in ids]


def _or_reasons(items: Items, compute: Callable[[], Any]) -> Any:
    """Return the result of ``compute``; if no image can be decoded, which is an error elsewhere, the reasons."""
    if not len(items):
        return items.quarantined
    try:
        with progress(False):
            return compute()
    except InputError:
        reasons = []
        for i, name in enumerate(items.ids):
            try:
                items.open(i)
            except UndecodableError as error:
                reasons.append(Quarantined(name, str(error)))
        if len(reasons) < len(items):
            raise
        return (*items.quarantined, *reasons)


def _names(labels: np.ndarray, class_names: tuple[str, ...]) -> list[str | None]:
    return [None if k == UNLABELED else class_names[k] for k in labels.tolist()]
