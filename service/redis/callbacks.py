"""Callbacks of jobs in Redis: any free API process tells the caller, another one if it dies."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from service.callbacks import Callbacks
from service.contracts import Job
from service.errors import NotFound
from service.redis import scripts
from service.redis.connections import FAILURES, Backoff, connect, connect_blocking, forever
from service.redis.keys import CALLBACKS, CALLERS
from service.settings import Settings
from service.shutdown import end

log = logging.getLogger("retouch.callbacks")

BLOCK = 1000  # milliseconds
AT_ONCE = 16  # read in one go
UNDER_WAY = 4000  # deliveries, most of which wait for their turn or their next attempt
LOST = 300_000  # milliseconds; all attempts of a living process take less
FORGOTTEN = 3_600_000  # milliseconds of silence after which a process' name is deleted

Finished = Callable[[str], Awaitable[tuple[Job, str]]]  # a job's id to the job and its callback's address


class CallbackQueue:
    def __init__(self, settings: Settings, callbacks: Callbacks, finished: Finished) -> None:
        assert settings.redis_url
        self._name = uuid.uuid4().hex
        self._client: Any = connect(settings.redis_url)
        self._reader: Any = connect_blocking(settings.redis_url, BLOCK / 1000)
        self._callbacks = callbacks
        self._finished = finished
        self._places = asyncio.Semaphore(UNDER_WAY)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._begin(forever(self._serve, "callbacks cannot be read"))

    async def stop(self) -> None:
        # What is not delivered stays in the stream, for another process or for the next start.
        await end(self._tasks)
        try:
            await scripts.run(self._client, scripts.RETIRE, [CALLBACKS], [CALLERS, self._name, FORGOTTEN])
        except FAILURES as error:
            log.info("not now: %s", error)
        await self._reader.aclose()
        await self._client.aclose()

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, backoff: Backoff) -> None:
        with suppress(ResponseError):  # it is there
            await self._client.xgroup_create(CALLBACKS, CALLERS, "0", mkstream=True)
        while True:
            await self._next()
            backoff.reset()

    async def _next(self) -> None:
        _, lost, *_ = await self._client.xautoclaim(CALLBACKS, CALLERS, self._name, LOST, count=AT_ONCE)
        read = await self._reader.xreadgroup(CALLERS, self._name, {CALLBACKS: ">"}, count=1, block=BLOCK)
        for entry, fields in [*lost, *(pair for _, entries in read or () for pair in entries)]:
            try:
                id = fields[b"job"].decode()
            except (KeyError, ValueError):
                log.error("an entry that names no job is dropped")
                await self._drop(entry)
                continue
            await self._places.acquire()
            self._begin(self._deliver(entry, id))

    async def _deliver(self, entry: bytes, id: str) -> None:
        try:
            job, url = await self._finished(id)
            await self._callbacks.deliver(url, job)
        except NotFound:
            pass  # deleted meanwhile: nobody wants to know
        except Exception as error:
            log.warning("callback for %s is left for later: %s", id, type(error).__name__)
            return
        finally:
            self._places.release()
        await self._drop(entry)

    async def _drop(self, entry: bytes) -> None:
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xack(CALLBACKS, CALLERS, entry)
            pipe.xdel(CALLBACKS, entry)
            await pipe.execute()
