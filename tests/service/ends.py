"""Both ends of the streams in this process, and a real Redis between them, for tests of the dispatcher."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.observability.metrics import Metrics
from service.redis import keys
from service.redis.consumer import Consumer
from service.redis.dispatcher import RedisDispatcher
from service.redis.fleet import Announcement
from service.redis.streams import WorkerStreams
from service.settings import Settings
from service.work import Run
from tests.service.dispatchers import EchoDispatcher, run_of

LEASE = 0.3
MODEL = {"name": "echo", "task": "inpaint", "digest": "digest"}


def run_with(content: bytes = b"picture", seconds: float = 20) -> Run:
    return run_of("inpaint", "echo", content, seconds=seconds)


class Ends:
    """Both ends, and a client to look between them."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = Settings(dispatch="redis", redis_url=url, **settings)
        self.client = aioredis.Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 3))
        self.stream = keys.stream("echo", "interactive")
        self.api = RedisDispatcher(self.settings, Metrics())
        self.consumers: list[Consumer] = []

    async def worker(
        self, dispatcher: EchoDispatcher, places: int = 4, pace: float | None = 0.01, digest: str = "digest"
    ) -> Consumer:
        consumer = Consumer(
            WorkerStreams(str(self.settings.redis_url), f"worker-{len(self.consumers)}", ["echo"], LEASE),
            dispatcher.submit,
            lambda: dispatcher.ready()[0],
            Metrics(),
            places,
            LEASE,
            lambda _: Announcement([MODEL | {"digest": digest}], {"inpaint": "echo"}, pace),
            lambda: pytest.fail("the worker died"),
        )
        self.consumers.append(consumer)
        await consumer.start()
        await until(lambda: consumer.ready()[0])
        await until(self._announced)
        return consumer

    async def _announced(self) -> bool:
        await self.api.fleet.refresh()
        return self.api.fleet.workers == len(self.consumers)

    async def left(self) -> set[str]:
        """Keys with something in them, but for the fleet's own list."""
        found = set()
        for key in await self.client.keys("retouch:*"):
            if key not in (keys.FLEET, keys.WEIGHTS) and not (
                key.startswith("retouch:jobs:") and await self.client.xlen(key) == 0
            ):
                found.add(key)
        return found


async def until(true: Callable[[], bool | Awaitable[bool]], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while True:
        found = true()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def ends(url: str, **settings: Any) -> AsyncIterator[Ends]:
    both = Ends(url, **settings)
    await both.api.start()
    try:
        yield both
    finally:
        await both.api.stop(5)
        for consumer in both.consumers:
            await consumer.stop(0)
        await both.client.aclose()
