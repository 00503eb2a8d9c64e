"""Connections to Redis, and patience with them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

T = TypeVar("T")

# What a Redis that is down, starting or full answers with.
FAILURES = (RedisError, OSError)
TIMEOUT = 2.0  # seconds one command may take, several megabytes of pictures included
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0


def connect(url: str) -> aioredis.Redis:
    """For commands. One retry without a pause: after a restart every pooled connection fails exactly once."""
    return aioredis.Redis.from_url(
        url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 1)
    )


def connect_blocking(url: str) -> aioredis.Redis:
    """For reads that wait: they must be neither cut off while nothing comes nor hold up commands."""
    return aioredis.Redis.from_url(
        url, socket_timeout=None, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
    )


class Backoff:
    """Longer after each failure in a row, and never the same for two processes."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE

    def reset(self) -> None:
        self._pause = FIRST_PAUSE

    async def pause(self) -> None:
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)


async def persist(call: Callable[[], Awaitable[T]]) -> T:
    """The call's result, however long Redis is away; the caller sets the limit by cancelling."""
    backoff = Backoff()
    while True:
        try:
            return await call()
        except FAILURES:
            await backoff.pause()


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel, as often as it takes: a client that is just giving up a connection may lose a cancellation."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
