"""Error responses: one JSON object with one sentence."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from modalign.core.display import visible
from modalign.core.errors import FullDiskError, ModalignError, fault_sentence

_MOST_SHOWN = 60  # characters of a path or method in an answer
Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


def error_reply(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """``{"error": sentence}`` with a status."""
    return JSONResponse({"error": sentence}, status, headers=None if headers is None else dict(headers))


def error_handlers() -> dict[int | type[Exception], Handler]:
    """``exception_handlers`` of an application: errors of the library keep their sentence.

    An error of the library is 422, a full disk 507. A body or a parameter of a wrong form is 422 with the first error.
    A client that closes the connection before its body has arrived is no error of the server.
    """
    return {
        ModalignError: _refuse_input,
        HTTPException: _refuse_http,
        RequestValidationError: _refuse_form,
        ClientDisconnect: _leave,
    }


async def _refuse_input(request: Request, error: ModalignError) -> Response:
    return error_reply(507 if isinstance(error, FullDiskError) else 422, str(error))


async def _refuse_http(request: Request, error: HTTPException) -> Response:
    return error_reply(error.status_code, _sentence(request, error), error.headers)


def _sentence(request: Request, error: HTTPException) -> str:
    """Return the message of the error; errors of the router only have the name of the status."""
    if error.detail != HTTPStatus(error.status_code).phrase:
        return str(error.detail)
    path = visible(request.url.path[:_MOST_SHOWN])
    if error.status_code == HTTPStatus.NOT_FOUND:
        return f"Expected a path of this server, got '{path}'."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow", "another method")
        return f"Expected {allowed} for '{path}', got {visible(request.method[:_MOST_SHOWN])}."
    return f"{error.detail}."


async def _refuse_form(request: Request, error: RequestValidationError) -> Response:
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return error_reply(422, "Expected the body as a JSON document, got other text; correct it and send it again.")
    place = ".".join(map(str, _place(fault, error.body)))
    name = f"'{visible(place[:_MOST_SHOWN])}'" if place else "the body"
    return error_reply(422, f"{fault_sentence(name, fault)}; correct it and send the request again.")


def _place(fault: Mapping[str, Any], body: Any) -> list[str | int]:
    """Names and places that lead to a value, without the names of types that pydantic enters for a union."""
    kind, *parts = fault["loc"]  # body, query or path
    if kind != "body" or body is None:
        return parts
    found = []
    for part in parts:
        if isinstance(body, dict) and (part in body or fault["type"] == "missing"):
            body = body.get(part)
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        else:
            continue
        found.append(part)
    return found


async def _leave(request: Request, error: ClientDisconnect) -> Response:
    return error_reply(499, "The connection was closed before the request was complete.")  # for the metrics; unread
