"""The checks before every request of a local server, and the headers of every answer."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modalign.app.web.access import Access
from modalign.app.web.error_replies import error_reply
from modalign.app.web.request_body import RequestBody, too_many_bytes

WRITE_HEADER = "x-modalign"
"""Every request that changes something must have it. A form or an image of another site cannot set a header."""

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "font-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # the address may hold the token
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """ASGI middleware that accepts only requests of the server's own pages.

    In this order: an unknown ``Host`` gets 421, another ``Origin`` 403, a missing or wrong token 401, a write without
    :data:`WRITE_HEADER` 403, a body of more than ``max_body`` bytes 413. An error for a request whose body was not read
    closes the connection; see :class:`~modalign.app.web.request_body.RequestBody`. The token comes as ``?token=``, as
    ``Authorization: Bearer`` or as the cookie that the first answer sets. No answer has a CORS header.

    Parameters
    ----------
    app : ASGIApp
        Application for the accepted requests.
    access : Access
        Address and token.
    needs_header : bool, default=True
        Whether writes must have :data:`WRITE_HEADER`; False for an interface that other programs call with a token.
    max_body : int, default=1048576
        Bytes of a request, counted while they arrive.
    open_paths : collection of str, default=()
        Paths that need no token, such as health checks.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        *,
        needs_header: bool = True,
        max_body: int = 2**20,
        open_paths: Collection[str] = (),
    ) -> None:
        self.app, self.access, self.needs_header, self.max_body = app, access, needs_header, max_body
        self.open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the start of the server; websockets are refused
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        fresh = self._token_in_query(scope)
        body = RequestBody(scope, receive, self.max_body)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                self._add_headers(headers, fresh)
                if body.unread and message["status"] >= 400:
                    headers["connection"] = "close"
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                await body.finish(message, send)
                return
            await send(message)

        refusal = self._refusal(scope, fresh)
        if refusal is not None:
            status, reason = refusal
            await error_reply(status, reason)(scope, receive, answer)
            return
        await self.app(scope, body.receive, answer)

    def _refusal(self, scope: Scope, fresh: bool) -> tuple[int, str] | None:
        """Return status and sentence for a refused request."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self.access.allows_host(host):
            return (
                421,
                f"This server accepts requests for its own address only; open {self.access.host}:{self.access.port}.",
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return 403, "This request comes from a page of another site."
        is_open = fresh or self.access.token is None or scope["path"] in self.open_paths
        if not (is_open or self._has_token(headers)):
            return 401, "This server needs its token; open the address that was printed when it started."
        if self.needs_header and scope["method"] not in _READING and WRITE_HEADER not in headers:
            return 403, f"A request that changes something needs the header {WRITE_HEADER}."
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.max_body:
            return 413, too_many_bytes(self.max_body)
        return None

    @property
    def _cookie(self) -> str:
        return f"modalign-{self.access.port}"  # cookies of all ports of a host are kept together

    def _token_in_query(self, scope: Scope) -> bool:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])
        return any(map(self._is_token, given))

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(bearer.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def _is_token(self, given: str) -> bool:
        return self.access.token is not None and hmac.compare_digest(given.encode(), self.access.token.encode())

    def _add_headers(self, headers: MutableHeaders, fresh: bool) -> None:
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("cache-control", "no-store")
        if fresh:
            headers.append("set-cookie", f"{self._cookie}={self.access.token}; Path=/; HttpOnly; SameSite=Strict")
