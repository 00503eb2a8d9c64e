"""GET /models, and for whoever holds the admin key loading, unloading and reading the manifests anew."""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from service.api.openapi import json_of, problems, ref
from service.api.services import services
from service.contracts import Dispatcher
from service.errors import Problem

router = APIRouter(prefix="/models", tags=["models"])

LIST: dict[str, Any] = {
    "type": "object",
    "properties": {"models": {"type": "array", "items": ref("Model")}},
    "required": ["models"],
}
ADMIN = problems(401, 404, 422, 501, 503)


@router.get(
    "", summary="What is installed", response_model=None, responses={200: json_of(LIST, "All models")}
)
async def models(request: Request) -> dict[str, list[dict[str, Any]]]:
    return listing(services(request).dispatcher)


def listing(dispatcher: Dispatcher) -> dict[str, list[dict[str, Any]]]:
    rows = dispatcher.models()
    chosen = {}
    for task in {row["task"] for row in rows}:
        with contextlib.suppress(Problem):  # a task may have models without having a default yet
            chosen[task] = dispatcher.resolve(task, None)[0]
    return {"models": [row | {"default": row["name"] == chosen.get(row["task"])} for row in rows]}


@router.post(
    "/reload",
    summary="Take what is installed now, and its defaults",
    response_model=None,
    responses={200: json_of(LIST, "All models"), **ADMIN},
)
async def reload(request: Request) -> dict[str, list[dict[str, Any]]]:
    at = services(request)
    at.access.require_admin(request)
    await at.dispatcher.reload()
    return listing(at.dispatcher)


@router.post("/{name}/load", summary="Bring a model to the device", status_code=204, responses=ADMIN)
async def load(name: str, request: Request) -> None:
    at = services(request)
    at.access.require_admin(request)
    await at.dispatcher.load(name)


@router.post("/{name}/unload", summary="Free a model's device memory", status_code=204, responses=ADMIN)
async def unload(name: str, request: Request) -> None:
    at = services(request)
    at.access.require_admin(request)
    await at.dispatcher.unload(name)
