"""A page about the service, written from its OpenAPI document; it loads nothing from another server."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from modalign.report.style import FONT, style_sheet
from modalign.report.templating import templates_of

STYLE_PATH = "/docs.css"
TOKEN = ' -H "Authorization: Bearer $MODALIGN_TOKEN"'


def api_page(document: Mapping[str, Any], address: str, *, token: bool = False) -> str:
    """Return the page: every route with its parameters, bodies, responses, and an example command.

    Parameters
    ----------
    document : mapping
        The OpenAPI document.
    address : str
        ``http://host:port`` for the commands.
    token : bool, default=False
        Whether the commands need a token.
    """
    start = f"curl {address}{{}}{TOKEN if token else ''}"
    routes = [
        _route(path, verb, operation, start)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]
    return (
        templates_of("modalign.app.serving")
        .get_template("api.html")
        .render(
            info=document["info"],
            routes=routes,
            schemas=document.get("components", {}).get("schemas", {}),
            style=STYLE_PATH,
            kind=_kind,
        )
    )


def api_style() -> str:
    """The style sheet of the page."""
    own = files("modalign.app.serving").joinpath("templates/api.css").read_text(encoding="utf-8")
    return style_sheet() + own.replace("FONT", FONT)


def _route(path: str, verb: str, operation: Mapping[str, Any], start: str) -> dict[str, Any]:
    takes_image = "requestBody" in operation
    body = " --data-binary @photo.jpg -H 'Content-Type: image/jpeg'" if takes_image else ""
    return {
        "path": path,
        "verb": verb.upper(),
        "text": operation.get("description", operation.get("summary", "")),
        "parameters": operation.get("parameters", []),
        "kinds": list(operation.get("requestBody", {}).get("content", {})),
        "responses": [
            (status, response.get("description", ""), _schema_name(response))
            for status, response in sorted(operation["responses"].items())
        ],
        "command": f"{start.format(path)}{body}",
    }


def _schema_name(response: Mapping[str, Any]) -> str:
    for content in response.get("content", {}).values():
        return _kind(content.get("schema", {}))
    return ""


def _kind(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "any value"))
