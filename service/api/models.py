"""GET /models, and loading and unloading for whoever holds the admin key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from service.api.services import services

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", summary="What is installed")
async def models(request: Request) -> dict[str, list[dict[str, Any]]]:
    return {"models": services(request).dispatcher.models()}


@router.post("/{name}/load", summary="Bring a model to the device", status_code=204)
async def load(name: str, request: Request) -> None:
    at = services(request)
    at.keys.require_admin(request)
    await at.dispatcher.load(name)


@router.post("/{name}/unload", summary="Free a model's device memory", status_code=204)
async def unload(name: str, request: Request) -> None:
    at = services(request)
    at.keys.require_admin(request)
    await at.dispatcher.unload(name)
