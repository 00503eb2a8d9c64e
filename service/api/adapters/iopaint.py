"""IOPaint's API, as its page and its users' scripts call it: pictures in base64, tools as plugins.

One model fills, the default: which one is no state of a server that many share.
"""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.api.answer import answered, respond, work_of
from service.api.openapi import IGNORED
from service.api.problems import route_that_says
from service.api.services import Services, services
from service.api.uploads import Upload, read_upload
from service.errors import NotSupported, Unprocessable
from service.work import TASKS, Work

ENLARGE = "RealESRGAN"  # the plugin that clients know as the one that enlarges
NO = "false"
# What would make another picture, and why it does not here.
REFUSED = {
    "prompt": "no model here reads text",
    "use_croper": "what lies outside the mask stays as it is anyway",
    "use_extender": "POST /inpaint extends pictures, with 'extend'",
    "paint_by_example_example_image": "no model here takes an example",
    "enable_controlnet": "there are no diffusion models here",
    "enable_brushnet": "there are no diffusion models here",
}
# Its clients send all their settings with every picture.
NAMED = re.compile(r"[a-z0-9_]{1,40}")
MOST_NAMED = 50

router = APIRouter(
    prefix="/api/v1",
    include_in_schema=False,
    route_class=route_that_says(lambda problem: {"error": problem.title, "errors": problem.detail}),
)


@router.get("/server-config")
async def server_config(request: Request) -> dict[str, Any]:
    at = services(request)
    enlarger, _ = at.dispatcher.resolve("upscale", None)
    return {
        "plugins": [{"name": ENLARGE, "support_gen_image": True, "support_gen_mask": False}],
        "modelInfos": [filler(at)],
        "disableModelSwitch": True,
        "realesrganModel": enlarger,
        "realesrganModels": [enlarger],
        "removeBGModel": "",
        "removeBGModels": [],
        "interactiveSegModel": "",
        "interactiveSegModels": [],
        "enableFileManager": False,
        "enableAutoSaving": False,
        "enableControlnet": False,
        "controlnetMethod": None,
        "isDesktop": False,
        "samplers": [],
    }


def filler(at: Services) -> dict[str, Any]:
    name, _ = at.dispatcher.resolve("inpaint", None)
    without = ("strength", "outpainting", "controlnet", "brushnet", "lcm_lora", "powerpaint_v2")
    return {
        "name": name,
        "path": name,
        "model_type": "inpaint",
        "is_single_file_diffusers": False,
        "need_prompt": False,
        "controlnets": [],
        "brushnets": [],
    } | {f"support_{what}": False for what in without}


@router.get("/model")
async def model(request: Request) -> dict[str, Any]:
    return filler(services(request))


@router.post("/gen-info")
async def prompts_of_a_picture() -> dict[str, str]:
    return {"prompt": "", "negative_prompt": ""}


@router.post("/inpaint")
async def inpaint(request: Request) -> Response:
    at = services(request)
    with at.access.admitted(request) as owner:
        upload = await read_upload(request, TASKS["inpaint"])
        for name, why in REFUSED.items():
            if upload.fields.get(name, NO) not in ("", NO):
                raise Unprocessable(f"{name} is not possible: {why}.")
        work = work_of(at, TASKS["inpaint"], Upload(upload.files), owner)
        return await picture(request, work, upload.fields.keys() - REFUSED.keys())


@router.post("/run_plugin_gen_image")
async def run_plugin(request: Request) -> Response:
    at = services(request)
    with at.access.admitted(request) as owner:
        upload = await read_upload(request, TASKS["upscale"])
        if upload.fields.get("name") != ENLARGE:
            raise Unprocessable(f"There is one plugin here, {ENLARGE!r}, which enlarges.")
        scale = upload.fields.get("upscale") or upload.fields.get("scale") or "2"
        work = work_of(at, TASKS["upscale"], Upload(upload.files, {"scale": scale}), owner)
        return await picture(request, work, upload.fields.keys() - {"name", "upscale", "scale"})


async def picture(request: Request, work: Work, ignored: Set[str]) -> Response:
    result, headers = await answered(request, services(request), work)
    if names := sorted(filter(NAMED.fullmatch, ignored)):
        headers[IGNORED] = ", ".join(names[:MOST_NAMED])
    return respond(result, headers)


@router.api_route("/{rest:path}", methods=["GET", "POST"])
async def nothing_else(rest: str) -> Response:
    raise NotSupported(
        f"There is no {rest[:50]!r} here: server-config, model, inpaint and run_plugin_gen_image are what of "
        "IOPaint there is."
    )
