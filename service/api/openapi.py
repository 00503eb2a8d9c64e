"""The documentation of what routes read and write by hand, made from the tables that they check it with."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from service.api.uploads import JSON, Form
from service.contracts import Job
from service.work import MEDIA_TYPES, TASKS

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

BINARY: Schema = {"type": "string", "format": "binary"}
BASE64: Schema = {"type": "string", "format": "byte"}
PROBLEMS = {
    400: "malformed request",
    401: "no valid API key",
    404: "there is no such thing",
    408: "the upload took too long",
    409: "there is no answer yet; Retry-After says when to come again",
    413: "too many bytes",
    415: "not a picture of a format we read",
    422: "not something that can be done; the detail says what to change",
    429: "too many requests of this key; Retry-After says when to come again",
    500: "a failure of ours, logged under the request_id",
    501: "this deployment does it in another way, which the detail names",
    503: "too much work queued, or not ready; Retry-After says when to come again",
    504: "the deadline passed",
}
UPLOAD = (400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504)
RETRIED = (409, 429, 503)


def header(text: str, **schema: Any) -> Schema:
    return {"description": text, "schema": {"type": "string"} | schema}


REQUEST_ID = {"X-Request-ID": header("Names this request in the log.")}
OWN_ID: Schema = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "description": "The name to give this request, of 64 letters at most."},
}
PICTURE_HEADERS = {
    "ETag": header("What the answer is: equal for equal pictures, parameters and weights."),
    "X-Model": header("The model that answered."),
    "X-Hole": header("Share of the picture that was filled.", type="number"),
    "X-Cache": header("Where the answer comes from.", enum=["hit", "miss", "shared", "bypass"]),
    "Server-Timing": header("Milliseconds of each stage."),
}
LOCATION = {"Location": header("Where the job is.")}
RETRY_AFTER = {"Retry-After": header("Seconds.", type="integer")}
IGNORED = "X-Ignored"  # what another protocol's client sent that means nothing here
# All that a page of another origin may read.
HEADERS = [*PICTURE_HEADERS, *REQUEST_ID, *LOCATION, *RETRY_AFTER, IGNORED]


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def of_model(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


STRING: Schema = {"type": "string"}
PROBLEM = of_model(
    type=STRING,
    title=STRING | {"description": "The kind of failure."},
    status={"type": "integer"},
    detail=STRING | {"description": "What happened, and what to change."},
    request_id=STRING,
    parameters={
        "type": "array",
        "description": "What is wrong with which parameter.",
        "items": of_model(parameter=STRING, problem=STRING) | {"required": ["parameter", "problem"]},
    },
    limit={"type": "number", "description": "The limit that was met."},
) | {
    "description": "RFC 9457. Some failures carry more facts than are listed here.",
    "required": ["type", "title", "status", "detail", "request_id"],
    "example": {
        "type": "about:blank",
        "title": "The request cannot be processed",
        "status": 422,
        "detail": "Give either scale (1 to 8), or width and/or height in pixels.",
        "request_id": "0f6d3c0b5ad14f7e8d1d1f0a4c9d2b6e",
    },
}
MODEL = of_model(
    name=STRING,
    task={"type": "string", "enum": list(TASKS)},
    default={"type": "boolean", "description": "Whether it answers when no model is named."},
    architecture=STRING,
    digest=STRING | {"description": "SHA-256 of the weights; after a +, how a GPU computes with them."},
    licence=STRING,
    restores={
        "type": "boolean",
        "description": "Whether it changes a picture at its own size, too.",
    },
    limits=of_model(
        window={"type": "integer", "description": "Pixels a side that the network works on."},
        sketch={"type": "boolean", "description": "Whether it takes a sketch."},
    ),
    device=STRING,
    resident={"type": "boolean", "description": "Whether it is on the device."},
    device_bytes={"type": "integer"},
) | {"required": ["name", "task", "default"]}

ANSWER = of_model(
    image=BASE64,
    media_type=STRING | {"enum": list(MEDIA_TYPES.values())},
    model=STRING,
    width={"type": "integer"},
    height={"type": "integer"},
    hole={"type": ["number", "null"], "description": "Share of the picture that was filled."},
    windows={"type": "integer", "description": "Pieces that it was computed in."},
) | {
    "description": "The answer to a request in JSON whose Accept names no picture.",
    "required": ["image", "media_type", "model", "width", "height", "hole", "windows"],
}


NULL: Schema = {"type": "null"}


def job_schema() -> Schema:
    """A job as its dataclass says, with where to go on from it; everything is always sent."""
    properties = TypeAdapter(Job).json_schema()["properties"]
    del properties["owner"]  # is not told
    for body in properties.values():
        body.pop("title", None)
        body.pop("default", None)
    problem = of_model(status={"type": "integer"}, title=STRING, detail=STRING)
    properties["problem"] = {"anyOf": [problem, NULL], "description": "Why it failed."}
    properties["position"]["description"] = "Jobs ahead of it, while it is queued."
    links = of_model(self=STRING, result=STRING, events=STRING)
    properties["links"] = links | {"required": list(links["properties"])}
    return {"type": "object", "properties": properties, "required": list(properties)}


def without_null(schema: Schema) -> Schema:
    """A form has no null: what may be left out is simply not sent."""
    kept = {name: value for name, value in schema.items() if name != "title"}
    if "anyOf" in kept:
        (inner,) = (choice for choice in kept.pop("anyOf") if choice != NULL)
        kept = inner | kept
    if kept.get("default", ...) is None:
        del kept["default"]
    return kept


def form(kind: Form, **more: Schema) -> Schema:
    """The `openapi_extra` of a route: files and parameters in the form, where every client can send them."""
    parameters = kind.parameters.model_json_schema()["properties"]
    rest = {name: without_null(body) for name, body in parameters.items()} | more

    def body(file: Schema) -> Schema:
        files = {name: file | {"description": text} for name, text in kind.files.items()}
        return {"schema": {"type": "object", "properties": files | rest, "required": ["image"]}}

    text = "Parameters are read from the query as well; given in both places they must be equal. "
    text += "In JSON files are strings, in base64 or as data: URLs."
    if kind.bare:
        text += " The picture alone may be the body, with its content type, and parameters in the query."
    content = {"multipart/form-data": body(BINARY), JSON: body(BASE64)}
    return {
        "requestBody": {"required": True, "content": content},
        "parameters": [OWN_ID],
        "description": text,
    }


def problems(*statuses: int) -> Responses:
    documented: Responses = {}
    for status in statuses:
        headers = dict(REQUEST_ID)
        if status in RETRIED:
            headers |= RETRY_AFTER
        if status == 401:
            headers["WWW-Authenticate"] = header("How to send a key.")
        content = {"application/problem+json": {"schema": ref("Problem")}}
        documented[status] = {"description": PROBLEMS[status], "headers": headers, "content": content}
    return documented


def picture(*statuses: int, in_json: bool = False) -> Responses:
    """An answer that is a picture, or one of these problems."""
    content = {media_type: {"schema": BINARY} for media_type in MEDIA_TYPES.values()}
    content |= {JSON: {"schema": ref("Answer")}} if in_json else {}
    headers = PICTURE_HEADERS | REQUEST_ID
    known = {"description": "The answer that If-None-Match names", "headers": headers}
    return {
        200: {"description": "The picture", "headers": headers, "content": content},
        304: known,
        **problems(*statuses),
    }


def json_of(schema: Schema, text: str, **headers: Schema) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    return {"description": text, "headers": headers | REQUEST_ID, "content": content}


def install(app: FastAPI) -> None:
    """The schemas that the routes name, and how a key is sent."""
    made = app.openapi

    def described() -> Schema:
        if app.openapi_schema is None:
            document = made()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= {"Problem": PROBLEM, "Model": MODEL, "Job": job_schema(), "Answer": ANSWER}
            document["components"]["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
            # None at all is one of the ways: keys are off unless RETOUCH_API_KEYS is set.
            document["security"] = [{}, {"bearer": []}, {"apiKey": []}]
        return made()

    app.openapi = described  # type: ignore[method-assign]
