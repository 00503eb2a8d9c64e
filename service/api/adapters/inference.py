"""The Open Inference Protocol's health and metadata, for platforms that probe by it (KServe)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.health import readyz
from service.api.problems import route_that_says
from service.api.services import services
from service.errors import NotFound, NotSupported
from service.work import TASKS

router = APIRouter(
    prefix="/v2",
    include_in_schema=False,
    route_class=route_that_says(lambda problem: {"error": problem.detail}),
)


@router.get("")
async def server() -> dict[str, Any]:
    return {"name": "retouch", "version": __version__, "extensions": []}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    return {"live": True}


@router.get("/health/ready")
async def ready(request: Request) -> dict[str, bool]:
    await readyz(request)
    return {"ready": True}


@router.get("/models/{name}")
async def model(name: str, request: Request) -> dict[str, Any]:
    row = find(request, name)
    return {
        "name": name,
        "versions": [row["digest"]],
        "platform": row["architecture"],
        "inputs": [picture(file) for file in TASKS[row["task"]].files],
        "outputs": [picture("image")],
    }


@router.get("/models/{name}/ready")
async def model_ready(name: str, request: Request) -> dict[str, Any]:
    find(request, name)
    await readyz(request)
    return {"name": name, "ready": True}


@router.post("/models/{name}/infer")
async def infer(name: str, request: Request) -> Response:
    raise NotSupported(f"Pictures are sent to POST /{find(request, name)['task']}, with model={name}.")


def find(request: Request, name: str) -> dict[str, Any]:
    for row in services(request).dispatcher.models():
        if row["name"] == name:
            return row
    raise NotFound("There is no such model; GET /models lists them.")


def picture(name: str) -> dict[str, Any]:
    """An encoded file."""
    return {"name": name, "datatype": "BYTES", "shape": [1]}
