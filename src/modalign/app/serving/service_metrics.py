"""Counts and times of the service, in the format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServiceMetrics:
    """The metrics of one server, apart from those of the process.

    Attributes
    ----------
    images : Counter
        Images by outcome, ``ok`` or ``undecodable``.
    batches : Histogram
        Images per batch.
    """

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "modalign_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "modalign_request_seconds", "Seconds from the first byte to the answer.", ["route"], registry=self._registry
        )
        self.images = Counter("modalign_images", "Images by outcome.", ["outcome"], registry=self._registry)
        self.batches = Histogram(
            "modalign_batch_images", "Images encoded together.", buckets=_SIZES, registry=self._registry
        )
        Gauge("modalign_queue_images", "Images that wait.", registry=self._registry).set_function(waiting)

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self._registry)

    def watch(self, app: ASGIApp) -> ASGIApp:
        """``app`` with its requests counted by route, not by path, of which there may be any number."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status, begun = 500, time.perf_counter()
            seconds: float | None = None

            async def answer(message: Message) -> None:
                nonlocal status, seconds
                if message["type"] == "http.response.start":  # behind it, a body that was not read is discarded
                    status, seconds = message["status"], time.perf_counter() - begun
                await send(message)

            try:
                await app(scope, receive, answer)
            finally:
                route = getattr(scope.get("route"), "path", "none")
                self._requests.labels(route, str(status)).inc()
                self._seconds.labels(route).observe(time.perf_counter() - begun if seconds is None else seconds)

        return watched
