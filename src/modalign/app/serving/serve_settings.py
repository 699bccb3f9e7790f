"""Limits of the HTTP service."""

from __future__ import annotations

from dataclasses import dataclass

from modalign.core.errors import InputError, argument


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Limits of the HTTP service.

    Attributes
    ----------
    max_batch : int, default=32
        Maximum number of images per batch.
    max_wait : float, default=0.0
        Seconds that an image waits for others to be encoded with. 0 takes what is waiting when the last batch is done.
    max_queue : int, default=256
        Maximum number of waiting images; a request that exceeds it gets status 503.
    max_images : int, default=32
        Images of one request.
    max_body : int, default=20971520
        Bytes of one request, counted while they arrive.
    deadline : float, default=30.0
        Seconds from the last byte of a request to its answer; then it gets status 504, and is not encoded any more.
    drain : int, default=30
        Seconds that running requests have to end after SIGTERM.

    Raises
    ------
    InputError
        A limit is not positive, or one request may have more images than may wait.
    """

    max_batch: int = 32
    max_wait: float = 0.0
    max_queue: int = 256
    max_images: int = 32
    max_body: int = 20 * 2**20
    deadline: float = 30.0
    drain: int = 30

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_queue", "max_images", "max_body", "deadline", "drain"):
            if not getattr(self, name) > 0:
                raise InputError(f"Expected {argument(name)} greater than 0, got {getattr(self, name)}.")
        if not self.max_wait >= 0:
            raise InputError(f"Expected {argument('max_wait')} of at least 0 seconds, got {self.max_wait}.")
        if self.max_images > self.max_queue:
            raise InputError(
                f"Expected {argument('max_queue')} of at least the {self.max_images} images of one request, got "
                f"{self.max_queue}."
            )
