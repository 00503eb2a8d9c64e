"""Jobs: the same requests, answered with a place to fetch the answer from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, aclosing, suppress
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.api.answer import headers_of, respond, work_of
from service.api.openapi import LOCATION, OWN_ID, STRING, UPLOAD, form, json_of, picture, problems, ref
from service.api.services import Services, services
from service.api.uploads import read_upload
from service.contracts import FINAL, GONE, Job, NewJob, scoped_key
from service.errors import BadRequest, NotFound, NotReady, Problem
from service.shutdown import Shutdown, end
from service.work import TASKS, Deadline, TaskKind

router = APIRouter(prefix="/jobs", tags=["jobs"])

KEEP_ALIVE = 15.0  # seconds between signs of life, which proxies expect of an open answer
CALLBACK = STRING | {
    "format": "uri",
    "maxLength": 2000,
    "description": "An http or https address that is sent the job, signed, when it is over.",
}
IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 255, "description": "Makes sending a job again safe."},
}
JOB = json_of(ref("Job"), "How the job stands")
FOLLOWED = (401, 404, 422, 429, 503)  # problems of those who ask for a job
EVENTS: dict[str, Any] = {
    "description": "Server-sent events, each the job: queued, running, done or failed, and then the end; "
    "deleted; or stopping, when this server ends and another is to be asked",
    "content": {"text/event-stream": {"schema": STRING}},
}


def route(kind: TaskKind) -> Callable[[Request], Awaitable[Response]]:
    async def create(request: Request) -> Response:
        at = services(request)
        with at.access.admitted(request) as owner:
            upload = await read_upload(request, kind)
            callback = upload.fields.pop("callback_url", "")
            key = request.headers.get("idempotency-key", "")
            if len(key) > 255:
                raise BadRequest("An Idempotency-Key may have at most 255 characters.")
            new = NewJob(
                work_of(at, kind, upload, owner),
                Deadline.after(at.settings.job_timeout, "RETOUCH_JOB_TIMEOUT"),
                scoped_key(owner, key),
                at.callbacks.check(callback),
            )
            job = await at.jobs.create(new)
            return JSONResponse(described(request, job), 202, {"Location": place(request, job.id)})

    return create


for kind in TASKS.values():
    router.add_api_route(
        f"/{kind.name}",
        route(kind),
        methods=["POST"],
        name=f"{kind.name}_job",
        summary=f"{kind.summary}, later",
        status_code=202,
        responses={202: json_of(ref("Job"), "The job that was made", **LOCATION), **problems(*UPLOAD)},
        openapi_extra=form(kind, callback_url=CALLBACK) | {"parameters": [OWN_ID, IDEMPOTENCY]},
    )


async def owned(at: Services, id: str, owner: str) -> Job:
    """The job, if it is the caller's: of another's not even its being there is told."""
    job = await at.jobs.get(id)
    if job.owner != owner:
        raise NotFound(GONE)
    return job


@router.get("/{id}", summary="How a job stands", responses={200: JOB, **problems(*FOLLOWED)})
async def status(id: str, request: Request) -> Response:
    at = services(request)
    with at.access.admitted(request) as owner:
        return JSONResponse(described(request, await owned(at, id, owner)))


@router.get(
    "/{id}/result",
    summary="A job's picture",
    responses=picture(*UPLOAD, 409),
    response_class=Response,
)
async def result(id: str, request: Request) -> Response:
    at = services(request)
    with at.access.admitted(request) as owner:
        await owned(at, id, owner)
        outcome = await at.jobs.outcome(id)
        if outcome is None:
            raise NotReady("The job is not over yet; follow /events, or come back.", retry_after=1)
        if isinstance(outcome, Problem):
            raise outcome
        return respond(outcome, headers_of(outcome, id, "bypass"))


@router.get(
    "/{id}/events",
    summary="A job's states, as they come",
    responses={200: EVENTS, **problems(*FOLLOWED)},
    response_class=Response,
)
async def events(id: str, request: Request) -> Response:
    at = services(request)
    with ExitStack() as places:
        owner = places.enter_context(at.access.listening(request))
        await owned(at, id, owner)  # a job that is not there is a 404, not an empty stream
        return EventStream(stream(request, at.jobs.watch(id), at.shutdown), places.pop_all())


class EventStream(StreamingResponse):
    """Gives back what it holds when it ends, or its reader leaves."""

    def __init__(self, events: AsyncGenerator[str, None], places: ExitStack) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events, self._places = events, places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places:
            async with aclosing(self._events):
                await super().__call__(scope, receive, send)


async def stream(
    request: Request, states: AsyncGenerator[Job, None], shutdown: Shutdown
) -> AsyncGenerator[str, None]:
    """The states as events. A server that stops says so, and the caller goes on at another."""
    stop, upcoming = asyncio.create_task(shutdown.wait()), following(states)
    try:
        while True:
            waiting: set[asyncio.Task[Any]] = {upcoming, stop}
            await asyncio.wait(waiting, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if upcoming.done():
                job = upcoming.result()
                if job is None:
                    yield "event: deleted\ndata: {}\n\n"
                    return
                yield f"event: {job.state}\ndata: {json.dumps(described(request, job))}\n\n"
                if job.state in FINAL:
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


def following(states: AsyncGenerator[Job, None]) -> asyncio.Task[Job | None]:
    """The next state; nothing if the job is there no more."""

    async def one() -> Job | None:
        with suppress(NotFound):
            return await anext(states, None)
        return None

    return asyncio.create_task(one())


@router.delete(
    "/{id}",
    summary="Cancel a job, or forget its result",
    status_code=204,
    responses=problems(*FOLLOWED),
)
async def delete(id: str, request: Request) -> None:
    at = services(request)
    with at.access.admitted(request) as owner:
        await owned(at, id, owner)
        await at.jobs.delete(id)


def place(request: Request, id: str) -> str:
    """Behind a proxy's prefix, too."""
    return f"{request.scope.get('root_path', '')}/jobs/{id}"


def described(request: Request, job: Job) -> dict[str, Any]:
    here = place(request, job.id)
    return {**job.public, "links": {"self": here, "result": f"{here}/result", "events": f"{here}/events"}}
