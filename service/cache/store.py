"""Where answers are kept: in memory up to a number of bytes, and in Redis when there is one."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import Protocol

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

log = logging.getLogger("retouch.cache")


class Cache(Protocol):
    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes) -> None: ...

    @property
    def available(self) -> bool:
        """False while the store is being left alone after a failure."""

    async def close(self) -> None: ...


class MemoryCache:
    """Least recently used answers, bounded in bytes."""

    available = True

    def __init__(self, max_bytes: int, max_entry: int) -> None:
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._max_bytes = max_bytes
        self._max_entry = min(max_entry, max_bytes)

    async def get(self, key: str) -> bytes | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes) -> None:
        if len(value) > self._max_entry:
            return
        self._bytes += len(value) - len(self._entries.pop(key, b""))
        self._entries[key] = value
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._entries.popitem(last=False)[1])

    async def close(self) -> None:
        self._entries.clear()
        self._bytes = 0


class Breaker:
    """Leaves a failing neighbour alone, for longer after each failure in a row."""

    def __init__(self, first: float = 1.0, longest: float = 30.0) -> None:
        self._first, self._longest = first, longest
        self._pause = 0.0
        self._closed_at = 0.0

    @property
    def open(self) -> bool:
        return time.monotonic() < self._closed_at

    def failed(self) -> None:
        self._pause = min(self._longest, self._pause * 2 or self._first)
        self._closed_at = time.monotonic() + self._pause

    def succeeded(self) -> None:
        self._pause = 0.0


class RedisCache:
    """Answers shared between processes. Redis slow, frozen or gone costs `timeout` once, then nothing.

    The client's own defaults (five seconds, ten retries) would hold a request for a minute. One retry
    without a pause stays, because after a restart of Redis every pooled connection fails exactly once.
    """

    PREFIX = "retouch:cache:"
    SHARE = 0.25  # of a Redis that evicts nothing: the rest is for jobs
    LOOK = 1.0  # seconds between two looks at how full it is

    def __init__(self, url: str, timeout: float, ttl: int, max_entry: int) -> None:
        self._client: aioredis.Redis = aioredis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 1),
        )
        self._ttl, self._max_entry = ttl, max_entry
        self._breaker = Breaker()
        self._room, self._looked = True, 0.0

    @property
    def available(self) -> bool:
        return not self._breaker.open

    async def get(self, key: str) -> bytes | None:
        if self._breaker.open:
            return None
        try:
            value = await self._client.get(self.PREFIX + key)
        except (RedisError, OSError) as error:
            self._fail("get", error)
            return None
        self._breaker.succeeded()
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes) -> None:
        if self._breaker.open or len(value) > self._max_entry:
            return
        try:
            if not await self._has_room():
                return
            await self._client.set(self.PREFIX + key, value, ex=self._ttl)
        except (RedisError, OSError) as error:
            self._fail("put", error)
            return
        self._breaker.succeeded()

    async def _has_room(self) -> bool:
        if time.monotonic() - self._looked > self.LOOK:
            self._looked = time.monotonic()
            try:
                memory = await self._client.info("memory")
            except ResponseError:  # not for this user to ask
                return self._room
            limit, policy = memory["maxmemory"], memory["maxmemory_policy"]
            self._room = policy != "noeviction" or not limit or memory["used_memory"] < self.SHARE * limit
        return self._room

    def _fail(self, operation: str, error: Exception) -> None:
        self._breaker.failed()
        log.warning("cache %s failed, going on without: %s", operation, type(error).__name__)

    async def close(self) -> None:
        await self._client.aclose()
