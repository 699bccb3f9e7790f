"""The HTTP service of a classifier."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp

from modalign import __version__
from modalign.app.serving.answering import Answerer, ImageJob, Result
from modalign.app.serving.api_page import STYLE_PATH, api_page, api_style
from modalign.app.serving.image_bodies import read_images
from modalign.app.serving.micro_batches import MicroBatcher, QueueFullError
from modalign.app.serving.prediction_routes import REFUSALS, add_embed, add_predict, add_predict_sets
from modalign.app.serving.serve_settings import ServeSettings
from modalign.app.serving.service_metrics import CONTENT_TYPE, ServiceMetrics
from modalign.app.serving.service_models import ModelReply, StatusReply, model_reply
from modalign.app.web import Access, Guard, error_handlers
from modalign.core.errors import UndecodableError
from modalign.model.classifier import Classifier
from modalign.model.multi_label import MultiLabelClassifier

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Paths without a token, for monitoring."""
RETRY_SECONDS = 1
_WATCHED: dict[int | str, dict[str, Any]] = {status: REFUSALS[status] for status in (401, 421)}


def create_service(
    classifier: Classifier | MultiLabelClassifier,
    access: Access,
    settings: ServeSettings = ServeSettings(),  # noqa: B008  # frozen
) -> ASGIApp:
    """The ASGI application that answers with a classifier.

    ``POST /v1/predict`` and ``/v1/embed`` take one image as the body or several as a form; ``GET /v1/model``,
    ``/healthz``, ``/readyz``, ``/metrics``, ``/openapi.json`` and ``/docs`` describe the service. Images of concurrent
    requests are encoded in one batch; an image that is encoded alone has the numbers of
    :meth:`Classifier.predict <modalign.Classifier.predict>` bit for bit.

    Parameters
    ----------
    classifier : Classifier or MultiLabelClassifier
        The model.
    access : Access
        Address and token.
    settings : ServeSettings
        Limits.
    """
    service = _Service(classifier, access, settings)
    app = FastAPI(
        title="modalign",
        version=__version__,
        description="Predictions of an image classifier.",
        docs_url=None,  # its page loads scripts from another server; /docs is a page of this package
        redoc_url=None,
        lifespan=service.running,
        exception_handlers=error_handlers(),
    )
    service.add_routes(app)
    guard = Guard(app, access, needs_header=False, max_body=settings.max_body, open_paths=OPEN_PATHS)
    return service.metrics.watch(guard)


class _Service:
    """The state of one server, and its routes."""

    def __init__(self, classifier: Classifier | MultiLabelClassifier, access: Access, settings: ServeSettings) -> None:
        self.access, self.settings = access, settings
        self.answerer = Answerer(classifier)
        self.classifier = classifier
        self.batcher: MicroBatcher[ImageJob, Result] = MicroBatcher(
            self._compute, max_batch=settings.max_batch, max_queue=settings.max_queue, max_wait=settings.max_wait
        )
        self.metrics = ServiceMetrics(lambda: self.batcher.waiting)
        self.ready = False

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """Computes while the server runs; ready after the first image, which loads what is loaded on first use."""
        self.batcher.start()
        picture = io.BytesIO()
        Image.new("RGB", (8, 8)).save(picture, "PNG")
        await self.batcher.submit([ImageJob(picture.getvalue())])[0]
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            await self.batcher.stop()

    def _compute(self, jobs: Sequence[ImageJob]) -> Sequence[Result | Exception]:
        self.metrics.batches.observe(len(jobs))
        results = self.answerer(jobs)
        bad = sum(isinstance(result, UndecodableError) for result in results)
        self.metrics.images.labels("ok").inc(len(results) - bad)
        self.metrics.images.labels("undecodable").inc(bad)
        return results

    async def results(self, request: Request, task: str, reject: float | None = None) -> list[tuple[str, Any]]:
        """Name and result of every image of a request: an answer, a vector, or the error of the decoder.

        Raises
        ------
        HTTPException
            503 if the queue is full, 504 at the deadline.
        UndecodableError
            None of the images can be decoded.
        """
        images = await read_images(request, self.settings.max_images)
        try:
            futures = self.batcher.submit([ImageJob(data, task, reject) for _, data in images])
        except QueueFullError:
            retry = {"retry-after": str(RETRY_SECONDS)}
            raise HTTPException(503, "The queue is full; try again.", headers=retry) from None
        try:
            async with asyncio.timeout(self.settings.deadline):
                found = await asyncio.gather(*futures, return_exceptions=True)
        except TimeoutError:
            raise HTTPException(504, f"No answer within {self.settings.deadline:g} seconds.") from None
        finally:
            for future in futures:
                future.cancel()
        failed = [result for result in found if isinstance(result, BaseException)]
        serious = [result for result in failed if not isinstance(result, UndecodableError)]
        if serious or len(failed) == len(found):
            raise (serious or failed)[0]
        return [(name, result) for (name, _), result in zip(images, found, strict=True)]

    def add_routes(self, app: FastAPI) -> None:
        """All routes of the service."""
        if isinstance(self.classifier, MultiLabelClassifier):
            add_predict_sets(app, self.classifier, self.results)
        else:
            add_predict(app, self.classifier, self.results)
        add_embed(app, self.classifier, self.results)
        self._add_watching(app)
        self._add_docs(app)

    def _add_watching(self, app: FastAPI) -> None:
        @app.get("/v1/model", responses=_WATCHED)
        async def model() -> ModelReply:
            """The model of the service."""
            return model_reply(self.classifier)

        @app.get("/healthz", responses={421: REFUSALS[421]})
        async def alive() -> StatusReply:
            """Whether the process answers."""
            return StatusReply(status="ok")

        @app.get("/readyz", responses={503: {"model": StatusReply}, 421: REFUSALS[421]})
        async def ready(response: Response) -> StatusReply:
            """Whether requests are taken: not before the model is loaded, and not while the server ends."""
            response.status_code = 200 if self.ready else 503
            return StatusReply(status="ready" if self.ready else "not ready")

        @app.get("/metrics", response_class=Response, responses=_WATCHED | _text(CONTENT_TYPE))
        async def metrics() -> Response:
            """Counts and times in the format of Prometheus."""
            return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    def _add_docs(self, app: FastAPI) -> None:
        access = self.access

        @app.get("/docs", include_in_schema=False)
        async def docs() -> HTMLResponse:
            address = replace(access, token=None).url.rstrip("/")
            return HTMLResponse(api_page(app.openapi(), address, token=access.token is not None))

        @app.get(STYLE_PATH, include_in_schema=False)
        async def style() -> Response:
            return Response(api_style(), media_type="text/css")


def _text(kind: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {kind.partition(";")[0]: {"schema": {"type": "string"}}}}}


__all__ = ["create_service"]
