"""The documentation of bodies that the routes read by hand, made from the table of tasks that checks them."""

from __future__ import annotations

from typing import Any

from service.api.uploads import Form
from service.work import MEDIA_TYPES

BINARY = {"type": "string", "format": "binary"}
PROBLEMS = {
    400: "malformed request",
    401: "no valid API key",
    404: "no such model",
    408: "the upload took too long",
    413: "too many bytes",
    415: "not a picture of a format we read",
    422: "not something that can be done; the detail says what to change",
    429: "too many requests of this key; Retry-After says when",
    503: "too much work queued; Retry-After says when",
    504: "the deadline passed",
}


def documented(kind: Form) -> dict[str, Any]:
    """The `openapi_extra` of a route: files in the form, parameters in form or query."""
    schema = kind.parameters.model_json_schema()
    properties = {name: BINARY | {"description": text} for name, text in kind.files.items()}
    content: dict[str, Any] = {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": properties | schema["properties"],
                "required": ["image"],
            }
        }
    }
    if kind.bare:
        content["image/*"] = {"schema": BINARY}
    query = [
        {"name": name, "in": "query", "required": False, "schema": body}
        for name, body in schema["properties"].items()
    ]
    return {"requestBody": {"required": True, "content": content}, "parameters": query}


def responses() -> dict[int | str, dict[str, Any]]:
    picture: dict[str, Any] = {
        "description": "The picture",
        "content": {media_type: {"schema": BINARY} for media_type in MEDIA_TYPES.values()},
    }
    problem = {"application/problem+json": {"schema": {"type": "object"}}}
    documented: dict[int | str, dict[str, Any]] = {200: picture}
    documented[304] = {"description": "The answer that If-None-Match names"}
    for status, text in PROBLEMS.items():
        documented[status] = {"description": text, "content": problem}
    return documented
