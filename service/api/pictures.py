"""POST /inpaint and POST /upscale."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.api.answer import answer
from service.api.openapi import documented, responses
from service.api.services import services
from service.api.uploads import Upload, read_upload
from service.errors import Unprocessable
from service.jobs.job import InpaintParameters, UpscaleParameters

router = APIRouter(tags=["pictures"], responses=responses(), default_response_class=Response)

INPAINT_FILES = {
    "image": "The picture. Without a mask, its transparent part is the hole.",
    "mask": "What to fill, as a picture of the same size; see mask_mode.",
    "sketch": "Lines that guide the fill, as a picture of the same size.",
}
UPSCALE_FILES = {"image": "The picture."}


@router.post("/inpaint", summary="Fill a hole", openapi_extra=documented(InpaintParameters, INPAINT_FILES))
async def inpaint(request: Request) -> Response:
    at = services(request)
    with at.keys.admitted(request):
        upload = await read_upload(request, INPAINT_FILES)
        return await answer(request, at, "inpaint", upload, upload.parameters(InpaintParameters))


@router.post(
    "/upscale",
    summary="Enlarge by any factor",
    openapi_extra=documented(UpscaleParameters, UPSCALE_FILES, raw=True),
)
async def upscale(request: Request) -> Response:
    at = services(request)
    with at.keys.admitted(request):
        upload = await read_upload(request, UPSCALE_FILES, raw=True)
        return await answer(request, at, "upscale", upload, upscale_parameters(upload))


def upscale_parameters(upload: Upload) -> UpscaleParameters:
    parameters = upload.parameters(UpscaleParameters)
    if (parameters.scale is None) == (parameters.width is None and parameters.height is None):
        raise Unprocessable("Give either scale (1 to 8), or width and/or height in pixels.")
    return parameters
