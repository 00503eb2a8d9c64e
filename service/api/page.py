"""The page, the reference of the API beside it, and what has to be known before anything is sent."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.api.services import services
from service.imaging.windows import HIGHEST_SCALE, LOWEST_SCALE

WEB = Path(str(files("service.web")))
# Pictures that the page holds are blobs; all else comes from this server, and nothing is sent anywhere else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
router = APIRouter()


class Parts(StaticFiles):
    """The page's modules belong together: a browser asks each time whether what it keeps is still right."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


@router.get("/", response_class=FileResponse, include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(WEB / "index.html", headers=HEADERS)


@router.get("/docs", response_class=FileResponse, include_in_schema=False)
async def reference() -> FileResponse:
    return FileResponse(WEB / "reference.html", headers=HEADERS)


@router.get("/limits", summary="What may be sent", tags=["models"])
async def limits(request: Request) -> dict[str, float | bool]:
    at = services(request)
    return {
        "max_bytes": at.settings.max_bytes,
        "max_pixels": at.settings.max_pixels,
        "max_side": at.settings.max_side,
        "lowest_scale": LOWEST_SCALE,
        "highest_scale": HIGHEST_SCALE,
        "keys": at.access.keys_needed,
    }


def install(app: FastAPI) -> None:
    app.include_router(router)
    app.mount("/web", Parts(directory=WEB), name="web")
