"""From an upload to an answer: the cache, equal requests in flight, the dispatcher, and leaving clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from service.api.services import Services
from service.api.uploads import Upload
from service.cache.entry import unpack
from service.cache.keys import cache_key
from service.cache.through import computed
from service.errors import Cancelled
from service.jobs.job import InpaintParameters, Job, Result, Task, UpscaleParameters
from service.observability.logs import request_id

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


async def answer(
    request: Request,
    at: Services,
    task: Task,
    upload: Upload,
    parameters: InpaintParameters | UpscaleParameters,
) -> Response:
    model, digest = at.dispatcher.resolve(task, parameters.model)
    image, mask, sketch = upload.image(), upload.files.get("mask"), upload.files.get("sketch")
    key = cache_key(task, model, digest, parameters, image, mask, sketch)
    etag = f'"{key}"'
    if etag in (tag.strip() for tag in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers={"ETag": etag, "X-Model": model})

    started = time.perf_counter()
    entry = await at.cache.get(key)
    looked_up = time.perf_counter() - started
    if entry is not None:
        at.metrics.cache.labels("hit").inc()
        return respond(unpack(entry), etag, "hit", looked_up)

    state = "miss" if at.cache.available else "bypass"
    at.metrics.cache.labels(state).inc()

    async def compute() -> Result:
        job = Job(
            task=task,
            model=model,
            image=image,
            mask=mask,
            sketch=sketch,
            parameters=parameters,
            deadline=time.monotonic() + at.settings.timeout,
            request_id=request_id.get(),
        )
        return await computed(at.cache, key, lambda: at.dispatcher.submit(job))

    result, joined = await unless_gone(request, at.flights.run(key, compute))
    return respond(result, etag, "shared" if joined else state, looked_up)


def respond(result: Result, etag: str, cache_state: str, looked_up: float) -> Response:
    timings = {**result.timings, "cache": looked_up}
    headers = {
        "ETag": etag,
        "X-Model": result.model,
        "X-Cache": cache_state,
        "Server-Timing": ", ".join(f"{name};dur={value * 1000:.1f}" for name, value in timings.items()),
    }
    if result.hole is not None:
        headers["X-Hole"] = f"{result.hole:.4f}"
    return Response(result.content, media_type=result.media_type, headers=headers)
