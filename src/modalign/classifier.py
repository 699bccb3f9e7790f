"""What a user keeps: an encoder, a method fitted on its features, class names and a calibrated temperature."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modalign.data.items import Items, load_items
from modalign.data.prompts import DEFAULT_TEMPLATE, read_descriptions, sentences
from modalign.data.splits import few_shot
from modalign.encoders import load_encoder
from modalign.encoders.base import VIEWS
from modalign.errors import InputError, UndecodableError, UnknownNameError
from modalign.features import UNLABELLED, EncoderSpec, Features, Quarantined, concatenate
from modalign.linalg.calibration import fit_temperature
from modalign.methods import method_class
from modalign.methods.base import VectorMethod
from modalign.methods.parameters import check_parameters, parameters
from modalign.persistence import load_model, save_model

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder
    from modalign.evaluate.metrics import Accuracy, ClassAccuracy


@dataclass(frozen=True)
class Prediction:
    """The answer for one image."""

    id: str
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Predictions(Sequence[Prediction]):
    """The answers for many images, in the order they were given; undecodable ones are in ``quarantined``."""

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    probabilities: np.ndarray  # (n, C), rows sum to 1
    quarantined: tuple[Quarantined, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Prediction:  # type: ignore[override]
        row = self.probabilities[i]
        order = np.argsort(-row, kind="stable")[:5]
        top = tuple((self.class_names[k], float(row[k])) for k in order)
        return Prediction(self.ids[i], *top[0], top)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    @property
    def names(self) -> tuple[str, ...]:
        """The most probable class of every image."""
        return tuple(self.class_names[k] for k in self.probabilities.argmax(axis=1))


@dataclass(frozen=True)
class Evaluation:
    """How well a classifier does on labelled images that it was not fitted on."""

    accuracy: Accuracy
    per_class: tuple[ClassAccuracy, ...]
    confusion: np.ndarray  # (C, C) counts, rows = true class
    calibration_error: float
    ids: tuple[str, ...]  # the n images tested on
    labels: np.ndarray  # (n,)
    probabilities: np.ndarray  # (n, C)
    class_names: tuple[str, ...]
    left_out: tuple[str, ...]  # ids of images that the model was fitted on
    quarantined: tuple[Quarantined, ...]


@dataclass
class Classifier:
    """An adapted classifier from images to class names with calibrated probabilities.

    Attributes
    ----------
    encoder : turns images into vectors.
    method : the fitted method on those vectors.
    class_names : C names, in the order of the method's score columns.
    temperature : scores are divided by it before the softmax; fitted on validation images.
    fitted_on : content hashes of the images used for fitting and validation, so that they are never tested on.
    record : how the model came about: shots, seed, counts, seconds, notes.
    """

    encoder: Encoder
    method: VectorMethod
    class_names: tuple[str, ...]
    temperature: float = 1.0
    fitted_on: frozenset[str] = frozenset()
    record: dict[str, Any] = field(default_factory=dict)

    def predict(self, images: Any) -> Predictions:
        """Names and calibrated probabilities for paths, PIL images, a folder, a list file or an archive."""
        features = self.encoder.embed_images(images)
        return Predictions(features.ids, self.class_names, self._probabilities(features), features.quarantined)

    def evaluate(self, images: Any, *, include_fitted: bool = False) -> Evaluation:
        """Accuracy on labelled images (a folder per class, a CSV, …).

        Images that the model was fitted on or validated with are recognised by their bytes and left out, so that the
        folder it was made from can be given whole; ``include_fitted=True`` keeps them.
        """
        from modalign.evaluate.metrics import accuracy, confusion, per_class_accuracy
        from modalign.linalg.calibration import expected_calibration_error

        items = load_items(images)
        labels = self._labels(items)
        known = np.flatnonzero(labels != UNLABELLED)
        fitted_on = frozenset() if include_fitted else self.fitted_on
        seen = np.array([content_hash(items, i) in fitted_on for i in known], dtype=bool)
        if not (~seen).any():
            raise InputError(
                "Expected labelled images that the model was not fitted on, got none; "
                "give other images, or include_fitted=True to test on the training images all the same."
            )
        features = self.encoder.embed_images(items.select(known[~seen]))
        row_of = {name: i for i, name in enumerate(items.ids)}
        true = labels[[row_of[name] for name in features.ids]]
        probabilities = self._probabilities(features)
        predicted = probabilities.argmax(axis=1)
        return Evaluation(
            accuracy=accuracy(true, predicted),
            per_class=per_class_accuracy(true, predicted, self.class_names),
            confusion=confusion(true, predicted, len(self.class_names)),
            calibration_error=expected_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(true)),
            ids=features.ids,
            labels=true,
            probabilities=probabilities,
            class_names=self.class_names,
            left_out=tuple(items.ids[i] for i in known[seen]),
            quarantined=features.quarantined,
        )

    def save(self, folder: str | Path) -> Path:
        """Write the model as safetensors and a JSON card; the encoder is named and hashed, not copied."""
        return save_model(
            folder,
            self.method,
            {
                "encoder": asdict(self.encoder.spec),
                "class_names": list(self.class_names),
                "temperature": self.temperature,
                "fitted_on": sorted(self.fitted_on),
                "record": self.record,
            },
        )

    def _probabilities(self, features: Features) -> np.ndarray:
        logits = self.method.scores(features).astype(np.float64) / self.temperature
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def _labels(self, items: Items) -> np.ndarray:
        """Labels of ``items`` in this classifier's numbering, matched by name."""
        number = {name: k for k, name in enumerate(self.class_names)}
        used = np.unique(items.labels[items.labels != UNLABELLED])
        unknown = [items.class_names[k] for k in used if items.class_names[k] not in number]
        if unknown:
            raise InputError(
                f"Expected images of the model's {len(number)} classes, got also '{unknown[0]}'"
                f"{f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''}; remove or rename those folders."
            )
        renumber = np.array([number.get(name, UNLABELLED) for name in items.class_names] + [UNLABELLED])
        return renumber[items.labels]


def adapt(
    images: Any,
    *,
    encoder: str | Encoder = "tiny",
    method: str | VectorMethod = "cmm",
    shots: int | None = None,
    classes: Sequence[str] | str | Path | None = None,
    templates: str | Sequence[str] | None = None,
    descriptions: str | Path | None = None,
    mirror: bool | None = None,
    random_state: int = 0,
    device: str = "auto",
    **hyperparameters: Any,
) -> Classifier:
    """From images to an adapted classifier.

    Parameters
    ----------
    images : a folder with one sub-folder a class, a CSV, a list, an archive, or :class:`~modalign.Items`.
    encoder : a name for :func:`~modalign.load_encoder`, or what it returned.
    method : a name (see ``modalign list``) or an unfitted method.
    shots : training images a class; None uses all but a held-out part for validation.
    classes : class names, or a file of them, where the folders do not say it well.
    templates : sentences with ``{}`` for the class name.
    descriptions : a JSON file of sentences a class (CuPL or HPT layout) instead of templates.
    mirror : also train on mirrored images; None does what the method was published with.
    random_state : decides the split and everything random in the method.
    device : where the encoder runs if ``encoder`` is a name.
    **hyperparameters : passed to the method.

    Raises
    ------
    InputError : before any image is encoded, in one sentence.
    """
    started = time.perf_counter()
    items = load_items(images, classes=classes)
    if len(items.class_names) < 2:
        raise InputError(
            f"Expected at least 2 classes, got {len(items.class_names)}; put the images of each class in a folder of "
            "its own, or name the classes with classes=…"
        )
    if shots is not None and shots < 1:
        raise InputError(f"Expected shots to be at least 1, got {shots}; leave it out to learn from all images.")
    method = _configured(method, hyperparameters, random_state)
    split = None
    if (items.labels != UNLABELLED).any():
        split = few_shot(items, "all" if shots is None else shots, seed=random_state)
    elif method.needs_labels:
        raise InputError(
            f"{type(method).__name__} learns from labelled images, got none; "
            "sort some into one folder a class, or use method='zero_shot'."
        )
    lines = class_sentences(items.class_names, templates, descriptions)
    encoder = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
    if encoder.logit_scale and "logit_scale" in method.get_params() and "logit_scale" not in hyperparameters:
        method.set_params(logit_scale=float(encoder.logit_scale))
    text = encoder.embed_texts(lines, class_names=items.class_names) if encoder.has_text else None

    train = items if split is None else items.select(split.train)
    mirror = method.mirrors if mirror is None else mirror
    views = [encoder.embed_images(train, view=view) for view in (VIEWS if mirror else VIEWS[:1])]
    validation = None
    if split is not None and len(split.validation):
        validation = encoder.embed_images(items.select(split.validation))
    method.fit(concatenate(views), text=text, validation=validation)

    temperature = 1.0 if validation is None else calibrate(method, validation)
    used = range(len(items)) if split is None else np.concatenate([split.train, split.validation])
    return Classifier(
        encoder=encoder,
        method=method,
        class_names=items.class_names,
        temperature=temperature,
        fitted_on=frozenset() if split is None else frozenset(content_hash(items, i) for i in used) - {""},
        record={
            "shots": shots,
            "random_state": random_state,
            "mirror": mirror,
            "images": {"train": len(views[0]), "validation": 0 if validation is None else len(validation)},
            "calibrated": validation is not None,
            "sentences": [list(s) for s in lines],
            "notes": [*items.notes, *(() if split is None else split.notes)],
            "quarantined": [
                asdict(q) for q in concatenate([*views, *([validation] if validation else [])]).quarantined
            ],
            "seconds": round(time.perf_counter() - started, 3),
        },
    )


def calibrate(method: VectorMethod, validation: Features) -> float:
    """The temperature at which the scores of a fitted method are most likely right on labelled validation images."""
    scores = torch.from_numpy(method.scores(validation))
    return fit_temperature(scores, torch.from_numpy(validation.labels)).value


def load(folder: str | Path, *, encoder: str | Encoder | None = None) -> Classifier | VectorMethod:
    """Read a model that was saved: a :class:`Classifier`, or a bare method as it was fitted on vectors.

    ``encoder`` replaces the name on the card, for weights that have moved; another encoder than the one the model was
    fitted on is refused by its hash.
    """
    method, card = load_model(folder)
    if card is None:
        return method
    try:
        spec = EncoderSpec(**card["encoder"])
        names, temperature = tuple(card["class_names"]), float(card["temperature"])
        fitted_on, record = frozenset(card["fitted_on"]), dict(card["record"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The card of '{folder}' describes its classifier in a way not understood: {error}."
        ) from error
    if encoder is None or isinstance(encoder, str):
        encoder = load_encoder(encoder or spec.name, dtype=spec.dtype)
    spec.require(encoder.spec)
    return Classifier(encoder, method, names, temperature, fitted_on, record)


def class_sentences(
    class_names: Sequence[str], templates: str | Sequence[str] | None, descriptions: str | Path | None
) -> list[list[str]]:
    """The sentences that stand for each class: from a description file, or from templates."""
    if descriptions is not None:
        if templates is not None:
            raise InputError("Expected templates or descriptions, got both; choose one.")
        return read_descriptions(descriptions, class_names)
    templates = DEFAULT_TEMPLATE if templates is None else templates
    return sentences(class_names, [templates] if isinstance(templates, str) else templates)


def content_hash(items: Items, i: int) -> str:
    """16 hexadecimal digits that identify the bytes of an image; nothing for one that cannot be read."""
    try:
        return hashlib.sha256(items.read(i)).hexdigest()[:16]
    except UndecodableError:
        return ""


def _configured(method: str | VectorMethod, hyperparameters: dict[str, Any], random_state: int) -> VectorMethod:
    """An unfitted method with the given hyper-parameters, all of them checked."""
    if isinstance(method, str):
        cls = method_class(method)
        known = {p.name for p in parameters(cls)}
        for name in hyperparameters:
            if name not in known:
                raise UnknownNameError(f"hyper-parameter of {cls.__name__}", name, known)
        if "random_state" in known:
            hyperparameters = {"random_state": random_state, **hyperparameters}
        method = cls(**hyperparameters)
    elif hyperparameters:
        method.set_params(**hyperparameters)
    check_parameters(method)
    return method
