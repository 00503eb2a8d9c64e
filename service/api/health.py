"""Whether the process lives, whether it can answer, and how it has been doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.api.openapi import STRING, problems
from service.api.services import services
from service.errors import Unavailable
from service.observability.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])
TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": STRING}}}}


@router.get("/healthz", summary="The process is alive")
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz", summary="Jobs can be answered", response_class=JSONResponse, responses=problems(503))
async def readyz(request: Request) -> dict[str, str]:
    ready, reason = services(request).dispatcher.ready()
    if not ready:
        raise Unavailable(reason, retry_after=1)
    return {"status": "ready"}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=TEXT)
async def metrics(request: Request) -> Response:
    return Response(services(request).metrics.exposition(), media_type=CONTENT_TYPE)
