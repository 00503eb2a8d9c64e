"""Callbacks of orders in Redis: any free API process tells the caller, another one if it dies."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from typing import Any, Protocol

from redis.exceptions import ResponseError

from service.dispatch.redis import scripts
from service.dispatch.redis.client import FAILURES, Backoff, connect, connect_blocking, forever
from service.dispatch.redis.keys import CALLBACKS, COURIERS
from service.errors import NotFound
from service.orders.callbacks import Callbacks
from service.orders.order import Order
from service.settings import Settings
from service.tasks import end

log = logging.getLogger("retouch.callbacks")

BLOCK = 1000  # milliseconds
AT_ONCE = 16
LOST = 300_000  # milliseconds; all attempts of a living courier take less
FORGOTTEN = 3_600_000  # milliseconds of silence after which a courier's name is deleted


class Book(Protocol):
    async def get(self, name: str) -> Order: ...

    async def callback(self, name: str) -> str: ...


class Courier:
    def __init__(self, settings: Settings, callbacks: Callbacks, book: Book) -> None:
        assert settings.redis_url
        self._name = uuid.uuid4().hex
        self._client = connect(settings.redis_url)
        self._reader = connect_blocking(settings.redis_url, BLOCK / 1000)
        self._callbacks = callbacks
        self._book = book
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._begin(self._run())

    async def stop(self) -> None:
        # What is not delivered stays in the stream, for another courier or for the next start.
        await end(self._tasks)
        try:
            await scripts.run(self._client, scripts.RETIRE, [CALLBACKS], [COURIERS, self._name, FORGOTTEN])
        except FAILURES as error:
            log.info("not now: %s", error)
        await self._reader.aclose()
        await self._client.aclose()

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        await forever(self._serve, "callbacks cannot be read")

    async def _serve(self, backoff: Backoff) -> None:
        with suppress(ResponseError):  # it is there
            await self._client.xgroup_create(CALLBACKS, COURIERS, "0", mkstream=True)
        while True:
            await self._next()
            backoff.reset()

    async def _next(self) -> None:
        _, lost, *_ = await self._client.xautoclaim(CALLBACKS, COURIERS, self._name, LOST, count=AT_ONCE)
        read: Any = await self._reader.xreadgroup(
            COURIERS, self._name, {CALLBACKS: ">"}, count=1, block=BLOCK
        )
        for entry, fields in [*lost, *(pair for _, entries in read or () for pair in entries)]:
            await self._places.acquire()
            self._begin(self._deliver(entry, fields[b"job"].decode()))

    async def _deliver(self, entry: bytes, name: str) -> None:
        try:
            order, url = await self._book.get(name), await self._book.callback(name)
            await self._callbacks.deliver(url, order)
        except NotFound:
            pass  # deleted meanwhile: nobody wants to know
        except Exception as error:
            log.warning("callback for %s is left for later: %s", name, error)
            return
        finally:
            self._places.release()
        await self._client.xack(CALLBACKS, COURIERS, entry)
        await self._client.xdel(CALLBACKS, entry)
