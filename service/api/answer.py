"""From an upload to an answer: the cache, equal requests in flight, the dispatcher, and leaving clients."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.api.services import Services
from service.api.uploads import JSON, Upload, sent_type
from service.cache.answers import about, known
from service.errors import BadRequest, Cancelled
from service.formats import is_lossy
from service.observability.logs import request_id
from service.work import CacheState, Deadline, Result, Run, TaskKind, Work, read_parameters

T = TypeVar("T")


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The work's result; cancels it when the client disconnects, so that nobody computes for nobody."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(gone())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Cancelled("The client left before the answer was ready.")
        return task.result()
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()


def work_of(at: Services, kind: TaskKind, upload: Upload, owner: str) -> Work:
    parameters = read_parameters(kind.parameters, upload.fields, kind.files)
    image = upload.files.get("image")
    lossy = parameters.enlarges and is_lossy(image or b"")
    model, digest = at.dispatcher.resolve(kind.name, parameters.model, lossy)
    if image is None:
        raise BadRequest("There is no picture: send it as the multipart file 'image'.")
    return Work.create(kind.name, model, digest, parameters, upload.files, request_id.get(), owner)


async def answer(request: Request, at: Services, work: Work) -> Response:
    result, headers = await answered(request, at, work)
    tags = (tag.strip() for tag in request.headers.get("if-none-match", "").split(","))
    if headers["X-Cache"] == "hit" and headers["ETag"] in tags:
        # Only of what was answered before: whoever makes up a tag learns nothing by it.
        return Response(status_code=304, headers={"ETag": headers["ETag"], "X-Model": work.model})
    if sent_type(request) == JSON and "image/" not in request.headers.get("accept", ""):
        return JSONResponse({"image": in_base64(result), **about(result)}, headers=headers)
    return respond(result, headers)


async def answered(request: Request, at: Services, work: Work) -> tuple[Result, dict[str, str]]:
    """The work's result, and what the headers say of it."""
    started = time.perf_counter()
    found = await known(at.cache, work.key)
    looked_up = time.perf_counter() - started
    if found:
        at.metrics.cache.labels("hit").inc()
        return found, headers_of(found, work.key, "hit", looked_up)

    state: CacheState = "miss" if at.cache.available else "bypass"
    at.metrics.cache.labels(state).inc()

    async def compute() -> Result:
        deadline = Deadline.after(at.settings.timeout, "RETOUCH_TIMEOUT")
        return await at.submit(Run(work, deadline, looked_up=True))

    result, joined = await unless_gone(request, at.flights.run(work.key, compute))
    return result, headers_of(result, work.key, "shared" if joined else state, looked_up)


def headers_of(result: Result, tag: str, cache_state: CacheState, looked_up: float = 0.0) -> dict[str, str]:
    timings = {**result.timings, "cache": looked_up}
    headers = {
        "ETag": f'"{tag}"',
        "X-Model": result.model,
        "X-Cache": cache_state,
        "Server-Timing": ", ".join(f"{name};dur={value * 1000:.1f}" for name, value in timings.items()),
    }
    if result.hole is not None:
        headers["X-Hole"] = f"{result.hole:.4f}"
    return headers


def respond(result: Result, headers: dict[str, str]) -> Response:
    return Response(result.content, media_type=result.media_type, headers=headers)


def in_base64(result: Result) -> str:
    return base64.b64encode(result.content).decode()
