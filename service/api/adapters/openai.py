"""OpenAI's images API: edits with a mask. What is transparent in the mask, or in the picture, is the hole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.api.answer import answered, headers_of, in_base64, unless_gone, work_of
from service.api.jobs import place
from service.api.openapi import IGNORED
from service.api.problems import route_that_says
from service.api.services import Services, services
from service.api.uploads import Upload, read_upload
from service.contracts import NewJob
from service.errors import BadRequest, NotSupported, Problem, Unprocessable
from service.work import TASKS, Deadline, Result, Work, read_parameters


class EditParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = ""
    user: str = ""
    model: str | None = None
    n: Literal["1"] = "1"
    size: str = Field("auto", pattern=r"^(auto|\d{1,5}x\d{1,5})$")
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: str = "png"
    output_compression: str = "90"


@dataclass(frozen=True)
class EditForm:
    parameters: type[EditParameters]
    files: Mapping[str, str]
    bare: bool


FORM = EditForm(
    EditParameters,
    {"image": "The picture.", "image[]": "The same, from clients that send lists.", "mask": "The mask."},
    bare=False,
)
PASSED_OVER = ("prompt", "user")  # the client sends no edit without a prompt
router = APIRouter(
    prefix="/v1",
    include_in_schema=False,
    route_class=route_that_says(
        lambda problem: {
            "error": {"message": problem.detail, "type": problem.title, "param": None, "code": None}
        }
    ),
)


@router.post("/images/edits")
async def edits(request: Request) -> Response:
    at = services(request)
    with at.access.admitted(request) as owner:
        upload = await read_upload(request, FORM)
        wanted = read_parameters(EditParameters, upload.fields, FORM.files)
        ending = {"format": wanted.output_format, "quality": wanted.output_compression}
        if wanted.size == "auto":
            work = fill(at, wanted, upload.files, ending, owner)
        else:
            filled, _ = await answered(request, at, fill(at, wanted, upload.files, {}, owner))
            work = enlarge(at, wanted, filled, ending, owner)
        if wanted.response_format == "url":
            result, url = await unless_gone(request, as_job(request, at, work))
            data, headers = {"url": url}, headers_of(result, work.key, "bypass")
        else:
            result, headers = await answered(request, at, work)
            data = {"b64_json": in_base64(result)}
    if ignored := [name for name in PASSED_OVER if name in upload.fields]:
        headers[IGNORED] = ", ".join(ignored)
    body = {
        "created": int(time.time()),
        "data": [data],
        "output_format": wanted.output_format,
        "size": f"{result.width}x{result.height}",
    }
    return JSONResponse(body, headers=headers)


def fill(
    at: Services, wanted: EditParameters, files: dict[str, bytes], ending: dict[str, str], owner: str
) -> Work:
    if len({"image", "image[]"} & files.keys()) > 1:
        raise BadRequest("One picture is edited at a time.")
    renamed = {name.removesuffix("[]"): content for name, content in files.items()}
    fields = {**ending, "mask_mode": "alpha"} | ({"model": wanted.model} if wanted.model else {})
    return work_of(at, TASKS["inpaint"], Upload(renamed, fields), owner)


def enlarge(at: Services, wanted: EditParameters, filled: Result, ending: dict[str, str], owner: str) -> Work:
    width, height = wanted.size.split("x")
    if abs(int(width) * filled.height - int(height) * filled.width) > max(filled.width, filled.height):
        raise Unprocessable(
            f"The size {wanted.size} has other proportions than the picture, {filled.width}x{filled.height}."
        )
    fields = {**ending, "width": width, "height": height}
    return work_of(at, TASKS["upscale"], Upload({"image": filled.content}, fields), owner)


async def as_job(request: Request, at: Services, work: Work) -> tuple[Result, str]:
    """The work as a job that is waited for, and where its picture stays for as long as a job does."""
    deadline = Deadline.after(at.settings.timeout, "RETOUCH_TIMEOUT")
    job = await at.jobs.create(NewJob(work, deadline))
    async with aclosing(at.jobs.watch(job.id)) as states:
        async for _ in states:
            pass
    outcome = await at.jobs.outcome(job.id)
    if outcome is None:
        raise deadline.exceeded()
    if isinstance(outcome, Problem):
        raise outcome
    return outcome, f"{request.url.scheme}://{request.url.netloc}{place(request, job.id)}/result"


@router.post("/images/generations")
@router.post("/images/variations")
async def from_nothing() -> Response:
    raise NotSupported("No model here draws from words or makes variations; /v1/images/edits fills holes.")


@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    rows = services(request).dispatcher.models()
    return {"object": "list", "data": [described(row["name"]) for row in rows if row["task"] == "inpaint"]}


@router.get("/models/{name}")
async def model(name: str, request: Request) -> dict[str, Any]:
    services(request).dispatcher.resolve("inpaint", name)
    return described(name)


def described(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "retouch"}
