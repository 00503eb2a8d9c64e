"""GET /models, and loading and unloading for whoever holds the admin key."""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from service.api.services import services
from service.errors import Problem

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", summary="What is installed")
async def models(request: Request) -> dict[str, list[dict[str, Any]]]:
    dispatcher = services(request).dispatcher
    rows = dispatcher.models()
    chosen = {}
    for task in {row["task"] for row in rows}:
        with contextlib.suppress(Problem):  # a task may have models without having a default yet
            chosen[task] = dispatcher.resolve(task, None)[0]
    return {"models": [row | {"default": row["name"] == chosen.get(row["task"])} for row in rows]}


@router.post("/{name}/load", summary="Bring a model to the device", status_code=204)
async def load(name: str, request: Request) -> None:
    at = services(request)
    at.access.require_admin(request)
    await at.dispatcher.load(name)


@router.post("/{name}/unload", summary="Free a model's device memory", status_code=204)
async def unload(name: str, request: Request) -> None:
    at = services(request)
    at.access.require_admin(request)
    await at.dispatcher.unload(name)
