"""Connections to Redis, and patience with them."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

T = TypeVar("T")
log = logging.getLogger("retouch.redis")

# What a Redis that is down, starting or full answers with.
FAILURES = (RedisError, OSError)
TIMEOUT = 2.0  # seconds one command may take, several megabytes of pictures included
SLACK = 5.0  # seconds after which a read that should have ended by itself is given up with its connection
# Commands take a millisecond: beyond so many at once they wait for each other's connections. Without a limit
# a burst leaves a connection for each of its requests, and none is ever given back.
CONNECTIONS = 64
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0


def connect(url: str) -> aioredis.Redis:
    """For commands. One retry without a pause: after a restart every pooled connection fails exactly once."""
    pool = aioredis.BlockingConnectionPool.from_url(
        url,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        max_connections=CONNECTIONS,
        timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 1),
    )
    return aioredis.Redis.from_pool(pool)


def connect_blocking(url: str, seconds: float) -> aioredis.Redis:
    """For reads that wait up to so many seconds: they must neither be cut off while nothing comes, nor hold
    up commands, nor wait for ever on a Redis that froze or vanished without a word.
    """
    return aioredis.Redis.from_url(
        url,
        socket_timeout=seconds + SLACK,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
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


async def forever(work: Callable[[Backoff], Awaitable[None]], failing: str) -> None:
    """The work, begun anew whenever it fails, whatever of.

    Also of what nobody thought of: on a loop that has silently ended, all would wait up to their deadlines.
    """
    backoff = Backoff()
    while True:
        try:
            await work(backoff)
        except Exception as error:
            surprise = None if isinstance(error, FAILURES) else error
            log.warning("%s: %s; trying again", failing, type(error).__name__, exc_info=surprise)
            await backoff.pause()


async def persist(call: Callable[[], Awaitable[T]], until: float = math.inf) -> T:
    """The call's result, however long Redis is away; TimeoutError when the loop's clock says `until`.

    The time is looked at and not only cancelled by: a client that is just sending may lose a cancellation
    (`asyncio.wait_for` does, before Python 3.12), and nobody would cancel a second time.
    """
    backoff, loop = Backoff(), asyncio.get_running_loop()
    while True:
        try:
            async with asyncio.timeout_at(None if until == math.inf else until):
                return await call()
        except FAILURES:
            await backoff.pause()
        if loop.time() >= until:
            raise TimeoutError
