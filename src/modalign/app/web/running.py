"""Running an application on an open socket until it is stopped."""

from __future__ import annotations

import asyncio
import logging
import socket

import uvicorn
from starlette.types import ASGIApp


def run_app(app: ASGIApp, opened: socket.socket, *, drain: int = 5) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that run get ``drain`` seconds to end.

    A request runs once its body has arrived. Connections whose upload is not complete are closed at once.

    Parameters
    ----------
    app : ASGIApp
        Wrapped in a :class:`~modalign.app.web.guard.Guard`.
    opened : socket.socket
        Of :func:`~modalign.app.web.access.listen`.
    drain : int, default=5
        Seconds.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # addresses may hold the token
        server_header=False,
        proxy_headers=False,  # no proxy is trusted
        timeout_graceful_shutdown=drain,
        ws="none",
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    _Server(config).run(sockets=[opened])


class _Server(uvicorn.Server):
    """A server that does not wait for uploads when it is stopped."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)  # of the current request
            if cycle is not None and cycle.more_body:
                connection.transport.close()  # the application gets http.disconnect
        await super().shutdown(sockets)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """False for the traceback of a request that was ended after the drain; another line says that it was ended."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
