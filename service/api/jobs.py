"""Jobs: the same requests, answered with a place to fetch the answer from."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.api.answer import respond
from service.api.keys import sent_key
from service.api.openapi import PROBLEMS, documented, responses
from service.api.pictures import INPAINT_FILES, UPSCALE_FILES, upscale_parameters
from service.api.services import Services, services
from service.api.uploads import Upload, read_upload
from service.cache.keys import cache_key
from service.errors import BadRequest, NotFound, NotReady, Problem
from service.jobs.job import InpaintParameters, Job, Task, UpscaleParameters
from service.observability.logs import request_id
from service.orders.order import FINAL, Order, scoped_key
from service.orders.order import Request as NewOrder
from service.stopping import Stopping
from service.tasks import end

router = APIRouter(prefix="/jobs", tags=["jobs"])

KEEP_ALIVE = 15.0  # seconds between signs of life, which proxies expect of an open answer
CALLBACK = {
    "name": "callback_url",
    "in": "query",
    "required": False,
    "schema": {"type": "string", "description": "Is sent the job, signed, when it is over."},
}
IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 255, "description": "Makes sending a job again safe."},
}
JOB: dict[str, Any] = {
    "description": "The job: state, position, windows done of total, timings",
    "content": {"application/json": {"schema": {"type": "object"}}},
}
EVENTS: dict[str, Any] = {
    "description": "Server-sent events, each the job: queued, running, done or failed, and then the end; "
    "deleted; or stopping, when this server ends and another is to be asked",
    "content": {"text/event-stream": {}},
}
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: JOB,
    **{status: {"description": text} for status, text in PROBLEMS.items()},
}


def job_documented(*arguments: Any, **options: Any) -> dict[str, Any]:
    extra = documented(*arguments, **options)
    extra["parameters"] += [CALLBACK, IDEMPOTENCY]
    return extra


@router.post(
    "/inpaint",
    summary="Fill a hole, later",
    status_code=202,
    responses=ACCEPTED,
    openapi_extra=job_documented(InpaintParameters, INPAINT_FILES),
)
async def inpaint(request: Request) -> Response:
    at = services(request)
    with at.keys.admitted(request):
        upload = await read_upload(request, INPAINT_FILES)
        callback = upload.fields.pop("callback_url", "")
        parameters = upload.parameters(InpaintParameters)
        return await create(request, at, "inpaint", upload, parameters, callback)


@router.post(
    "/upscale",
    summary="Enlarge by any factor, later",
    status_code=202,
    responses=ACCEPTED,
    openapi_extra=job_documented(UpscaleParameters, UPSCALE_FILES, raw=True),
)
async def upscale(request: Request) -> Response:
    at = services(request)
    with at.keys.admitted(request):
        upload = await read_upload(request, UPSCALE_FILES, raw=True)
        callback = upload.fields.pop("callback_url", "")
        return await create(request, at, "upscale", upload, upscale_parameters(upload), callback)


async def create(
    request: Request,
    at: Services,
    task: Task,
    upload: Upload,
    parameters: InpaintParameters | UpscaleParameters,
    callback: str,
) -> Response:
    key = request.headers.get("idempotency-key", "")
    if len(key) > 255:
        raise BadRequest("An Idempotency-Key may have at most 255 characters.")
    model, digest = at.dispatcher.resolve(task, parameters.model)
    image, mask, sketch = upload.image(), upload.files.get("mask"), upload.files.get("sketch")
    job = Job(
        task=task,
        model=model,
        image=image,
        mask=mask,
        sketch=sketch,
        parameters=parameters,
        deadline=time.monotonic() + at.settings.job_timeout,
        request_id=request_id.get(),
        cache_key=cache_key(task, model, digest, parameters, image, mask, sketch),
    )
    order = await at.orders.create(
        NewOrder(
            job=job,
            key=scoped_key(sent_key(request), key),
            callback=at.callbacks.check(callback),
        )
    )
    return JSONResponse(described(order), 202, {"Location": f"/jobs/{order.id}"})


@router.get("/{name}", summary="How a job stands", responses={200: JOB, 404: {"description": "no such job"}})
async def status(name: str, request: Request) -> Response:
    at = services(request)
    with at.keys.admitted(request):
        return JSONResponse(described(await at.orders.get(name)))


@router.get(
    "/{name}/result",
    summary="A job's picture",
    responses={**responses(), 409: {"description": "the job is not over yet"}},
    response_class=Response,
)
async def result(name: str, request: Request) -> Response:
    at = services(request)
    with at.keys.admitted(request):
        outcome = await at.orders.outcome(name)
        if outcome is None:
            raise NotReady("The job is not over yet; follow /events, or come back.", retry_after=1)
        if isinstance(outcome, Problem):
            raise outcome
        return respond(outcome, f'"{name}"', "bypass", 0.0)


@router.get(
    "/{name}/events",
    summary="A job's states, as they come",
    responses={200: EVENTS},
    response_class=Response,
)
async def events(name: str, request: Request) -> Response:
    at = services(request)
    with at.keys.admitted(request):
        await at.orders.get(name)  # a job that is not there is a 404, not an empty stream
    return StreamingResponse(
        stream(at.orders.watch(name), request.app.state.stopping),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def stream(states: AsyncGenerator[Order, None], stopping: Stopping) -> AsyncGenerator[str, None]:
    """The states as events. A server that stops says so, and the caller goes on at another."""
    stop, upcoming = asyncio.create_task(stopping.wait()), following(states)
    try:
        while True:
            waiting: set[asyncio.Task[Any]] = {upcoming, stop}
            await asyncio.wait(waiting, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if upcoming.done():
                order = upcoming.result()
                if order is None:
                    yield "event: deleted\ndata: {}\n\n"
                    return
                yield f"event: {order.state}\ndata: {json.dumps(described(order))}\n\n"
                if order.state in FINAL:
                    return
                upcoming = following(states)
            elif stop.done():
                yield "event: stopping\ndata: {}\n\n"
                return
            else:
                yield ": still here\n\n"
    finally:
        await end([upcoming, stop])
        await states.aclose()


def following(states: AsyncGenerator[Order, None]) -> asyncio.Task[Order | None]:
    """The next state; nothing if the job is there no more."""

    async def one() -> Order | None:
        with suppress(NotFound):
            return await anext(states, None)
        return None

    return asyncio.create_task(one())


@router.delete("/{name}", summary="Cancel a job, or forget its result", status_code=204)
async def delete(name: str, request: Request) -> None:
    at = services(request)
    with at.keys.admitted(request):
        await at.orders.delete(name)


def described(order: Order) -> dict[str, Any]:
    links = {"self": f"/jobs/{order.id}", "result": f"/jobs/{order.id}/result"}
    return {**asdict(order), "links": {**links, "events": f"/jobs/{order.id}/events"}}
