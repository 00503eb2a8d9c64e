"""POST /inpaint and POST /upscale."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.api.answer import answer, work_of
from service.api.openapi import UPLOAD, form, picture
from service.api.services import services
from service.api.uploads import read_upload
from service.work import TASKS, TaskKind

router = APIRouter(
    tags=["pictures"], responses=picture(*UPLOAD, in_json=True), default_response_class=Response
)


def route(kind: TaskKind) -> Callable[[Request], Awaitable[Response]]:
    async def answered(request: Request) -> Response:
        at = services(request)
        with at.access.admitted(request) as owner:
            upload = await read_upload(request, kind)
            return await answer(request, at, work_of(at, kind, upload, owner))

    return answered


for kind in TASKS.values():
    router.add_api_route(
        f"/{kind.name}",
        route(kind),
        methods=["POST"],
        name=kind.name,
        summary=kind.summary,
        openapi_extra=form(kind),
    )
