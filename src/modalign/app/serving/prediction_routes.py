"""Routes that take images: predictions and vectors."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import FastAPI, Query, Request

from modalign.app.serving.image_bodies import FORM
from modalign.app.serving.service_models import (
    EmbedReply,
    ErrorReply,
    PredictReply,
    SetsReply,
    image_prediction,
    image_set,
    image_vector,
)
from modalign.app.web.query_parameters import CHECKED_QUERY
from modalign.model.classifier import Classifier
from modalign.model.multi_label import MultiLabelClassifier
from modalign.model.predictions import check_top

_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": _IMAGE,
            "image/*": _IMAGE,
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "items": _IMAGE["schema"], "minItems": 1}},
                }
            },
        },
    }
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": reason}
    for status, reason in {
        400: "The form cannot be read.",
        401: "The token is missing.",
        413: "Too many bytes or images.",
        415: "Neither an image nor a form.",
        421: "The host is not that of this server.",
        422: "No image can be decoded, or a parameter is out of range.",
        503: "The queue is full; try again after the seconds of Retry-After.",
        504: "The deadline has passed.",
    }.items()
}
_KEPT: dict[str, Any] = {
    "responses": REFUSALS, "openapi_extra": _BODY, "response_model_exclude_none": True, "dependencies": CHECKED_QUERY,
}  # fmt: skip


class Results(Protocol):
    """``results(request, task, reject)``: name and result of every image of a request."""

    async def __call__(self, request: Request, task: str, reject: float | None = None) -> list[tuple[str, Any]]: ...


def add_predict(app: FastAPI, classifier: Classifier, results: Results) -> None:
    """``POST /v1/predict`` of a classifier that names one class per image."""
    names, held_out = classifier.class_names, classifier.rejection
    asked_top = Query(1, ge=1, le=len(names), description="Classes per image.")
    lowest = 1 / (len(held_out.reference) + 1) if held_out is not None and held_out.reference else 0.05
    asked_reject = Query(None, ge=lowest, lt=1, description="Share of known images that may be rejected.")

    @app.post("/v1/predict", **_KEPT)
    async def predict(
        request: Request,
        top: int = asked_top,
        reject: float | None = asked_reject,
    ) -> PredictReply:
        """Names and probabilities of images."""
        check_top(top, names)
        found = await results(request, "predict", reject)
        return PredictReply(predictions=[image_prediction(name, result, top, reject) for name, result in found])


def add_predict_sets(app: FastAPI, classifier: MultiLabelClassifier, results: Results) -> None:
    """``POST /v1/predict`` of a classifier of images that may show several classes."""
    names = classifier.class_names
    asked_top = Query(len(names), ge=1, le=len(names), description="Classes per image; all by default.")

    @app.post("/v1/predict", **_KEPT)
    async def predict(request: Request, top: int = asked_top) -> SetsReply:
        """The classes that images show, and probabilities."""
        check_top(top, names)
        found = await results(request, "predict")
        return SetsReply(predictions=[image_set(name, result, top, classifier.model) for name, result in found])


def add_embed(app: FastAPI, classifier: Classifier | MultiLabelClassifier, results: Results) -> None:
    """``POST /v1/embed``."""

    @app.post("/v1/embed", **_KEPT)
    async def embed(request: Request) -> EmbedReply:
        """Unit vectors of images."""
        spec = classifier.encoder.spec
        found = await results(request, "embed")
        return EmbedReply(
            encoder=spec.name,
            fingerprint=spec.fingerprint,
            vectors=[image_vector(name, result) for name, result in found],
        )
