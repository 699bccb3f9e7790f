"""The body of a request: its bytes are counted while they arrive, and what is not read is discarded within bounds."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

LINGER_BYTES = 2**27
"""Bytes that are discarded after an answer to a request whose body was not read."""
LINGER_SECONDS = 10.0
"""Seconds that they may take."""


class RequestBody:
    """Count the body of a request, and discard the part that the application has not read.

    A connection that is closed while bytes arrive is reset, and a client that sends its whole body before it reads does
    not see the answer. :meth:`finish` therefore sends the answer at once and ends it when the rest of the body has
    arrived, or after ``LINGER_BYTES`` or ``LINGER_SECONDS``.

    Parameters
    ----------
    scope : Scope
        Of the request.
    receive : Receive
        Of the server.
    limit : int
        Bytes that the application may read.

    Attributes
    ----------
    unread : bool
        Whether bytes of the body may still arrive.
    """

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        headers = Headers(scope=scope)
        self.unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._receive, self._limit, self._received = receive, limit, 0

    async def receive(self) -> Message:
        """Return the next message; raise a 413 beyond the limit, whatever length was announced."""
        message = await self._next()
        if self._received > self._limit:
            raise HTTPException(413, too_many_bytes(self._limit))
        return message

    async def finish(self, message: Message, send: Send) -> None:
        """Send the last message of an answer; if the body was not read, discard it before the connection is closed."""
        if self.unread:
            await send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body"}
        await send(message)

    async def _next(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self.unread = self.unread and message.get("more_body", False)  # False if the client has left
        return message

    async def _discard(self) -> None:
        end = self._received + LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self.unread and self._received < end:
                    await self._next()


def too_many_bytes(limit: int) -> str:
    """The sentence of a 413."""
    return f"Expected at most {limit:,} bytes in one request, got more."
