"""The answers of the service, as its OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from modalign.app.serving.answering import Answer, SetAnswer
from modalign.core.record import plain
from modalign.methods.multi_label.one_against_rest import OneAgainstRest
from modalign.model.classifier import Classifier
from modalign.model.multi_label import MultiLabelClassifier
from modalign.report.evaluation import record_of
from modalign.report.photos.multi_label_page import record_of_sets


class ClassProbability(BaseModel):
    """A class and its probability."""

    name: str
    probability: float


class ImagePrediction(BaseModel):
    """The answer for one image; an error in place of the rest if it cannot be decoded."""

    id: str = Field(description="The name of the file in the form, or '0'.")
    name: str | None = Field(default=None, description="The most probable class, or 'none of these'.")
    probability: float | None = Field(default=None, description="Of the most probable class.")
    top: list[ClassProbability] = Field(default_factory=list, description="The most probable classes, in order.")
    rejected: bool | None = Field(
        default=None, description="Whether the image was rejected, if rejection was requested."
    )
    error: str | None = Field(default=None, description="Why the image cannot be decoded.")


class ClassShare(BaseModel):
    """A class, the probability that an image shows it, and whether that reaches its threshold."""

    name: str
    probability: float
    threshold: float
    shown: bool


class ImageSet(BaseModel):
    """The classes that one image shows; an error in place of them if it cannot be decoded."""

    id: str = Field(description="The name of the file in the form, or '0'.")
    classes: list[str] | None = Field(
        default=None, description="The classes whose probability reaches their threshold, the most probable first."
    )
    top: list[ClassShare] = Field(default_factory=list, description="The most probable classes, in order.")
    error: str | None = Field(default=None, description="Why the image cannot be decoded.")


class SetsReply(BaseModel):
    """Answers in the order of the images."""

    predictions: list[ImageSet]


class PredictReply(BaseModel):
    """Answers in the order of the images."""

    predictions: list[ImagePrediction]


class ImageVector(BaseModel):
    """The unit vector of one image; an error in its place if the image cannot be decoded."""

    id: str = Field(description="The name of the file in the form, or '0'.")
    vector: list[float] | None = Field(default=None, description="Of length one.")
    error: str | None = Field(default=None, description="Why the image cannot be decoded.")


class EmbedReply(BaseModel):
    """Vectors in the order of the images, and the encoder that made them."""

    encoder: str
    fingerprint: str = Field(description="Vectors of encoders with other fingerprints cannot be compared.")
    vectors: list[ImageVector]


class ModelReply(BaseModel):
    """The model of the service, without the images it was fitted on and without paths."""

    method: str
    classes: list[str]
    encoder: str
    fingerprint: str
    dim: int
    can_reject: bool = Field(description="Whether 'reject' may be given.")
    multi_label: bool = Field(description="Whether an image may show several of the classes.")
    thresholds: dict[str, float] | None = Field(
        default=None, description="Probability from which an image counts as showing a class, if it may show several."
    )
    record: dict[str, Any]


class StatusReply(BaseModel):
    """Whether the service works."""

    status: str


class ErrorReply(BaseModel):
    """Why a request was refused, in one sentence."""

    error: str


def image_prediction(name: str, result: Answer | Exception, top: int, reject: float | None) -> ImagePrediction:
    """The answer for an image as it is sent, with the ``top`` most probable classes."""
    if isinstance(result, Exception):
        return ImagePrediction(id=name, error=str(result))
    found = result.prediction
    order = np.argsort(-result.probabilities, kind="stable")[:top]
    best = [ClassProbability(name=result.class_names[k], probability=float(result.probabilities[k])) for k in order]
    rejected = None if reject is None else found.rejected
    return ImagePrediction(id=name, name=found.name, probability=found.probability, top=best, rejected=rejected)


def image_set(name: str, result: SetAnswer | Exception, top: int, model: OneAgainstRest) -> ImageSet:
    """The set of an image as it is sent, with the ``top`` most probable classes."""
    if isinstance(result, Exception):
        return ImageSet(id=name, error=str(result))
    names, thresholds = model.class_names_, model.thresholds.tolist()
    order = np.argsort(-result.probabilities, kind="stable").tolist()
    shares = [
        ClassShare(
            name=names[k],
            probability=float(result.probabilities[k]),
            threshold=thresholds[k],
            shown=bool(result.shown[k]),
        )
        for k in order
    ]
    return ImageSet(id=name, classes=[share.name for share in shares if share.shown], top=shares[:top])


def image_vector(name: str, result: np.ndarray | Exception) -> ImageVector:
    """The vector of an image as it is sent."""
    if isinstance(result, Exception):
        return ImageVector(id=name, error=str(result))
    return ImageVector(id=name, vector=result.astype(float).tolist())


def model_reply(classifier: Classifier | MultiLabelClassifier) -> ModelReply:
    """The public card of a model; :func:`~modalign.report.evaluation.record_of` leaves out hashes and paths."""
    thresholds: dict[str, float] | None = None
    if isinstance(classifier, MultiLabelClassifier):
        thresholds = dict(zip(classifier.class_names, classifier.model.thresholds.tolist(), strict=True))
        can_reject, record = False, record_of_sets(classifier)
    else:
        can_reject, record = classifier.rejection is not None, record_of(classifier)
    spec = classifier.encoder.spec
    return ModelReply(
        method=classifier.method.title,
        classes=list(classifier.class_names),
        encoder=spec.name,
        fingerprint=spec.fingerprint,
        dim=spec.dim,
        can_reject=can_reject,
        multi_label=thresholds is not None,
        thresholds=thresholds,
        record=plain(record),
    )
