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

from service.cache.store import MemoryCache
from service.dispatch.redis import keys
from service.dispatch.redis.consumer import Consumer
from service.dispatch.redis.fleet import Announcement
from service.dispatch.redis.mailbox import Mailbox
from service.dispatch.redis.producer import RedisDispatcher
from service.jobs.job import InpaintParameters, Job
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.service.backends import EchoBackend

LEASE = 0.3
MODEL = {"name": "echo", "task": "inpaint", "digest": "digest"}


def job(content: bytes = b"picture", seconds: float = 20) -> Job:
    return Job("inpaint", "echo", content, InpaintParameters(), deadline=time.monotonic() + seconds)


class Ends:
    """Both ends, and a client to look between them."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = Settings(dispatch="redis", redis_url=url, **settings)
        self.client = aioredis.Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 3))
        self.stream = keys.stream("echo", "interactive")
        self.api = RedisDispatcher(self.settings, Metrics())
        self.consumers: list[Consumer] = []

    async def worker(self, backend: EchoBackend, places: int = 4, pace: float | None = 0.01) -> Consumer:
        consumer = Consumer(
            Mailbox(str(self.settings.redis_url), f"worker-{len(self.consumers)}", ["echo"], LEASE),
            backend,
            Metrics(),
            places,
            LEASE,
            lambda _: Announcement([MODEL], {"inpaint": "echo"}, pace),
            MemoryCache(0, 0),
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
            if key != keys.FLEET and not (
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
