"""One way through the cache for whatever computes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from service.cache.entry import pack, unpack
from service.cache.store import Cache
from service.jobs.job import Result


async def through(cache: Cache, key: str, compute: Callable[[], Awaitable[Result]]) -> Result:
    """The answer that is known, or one that is computed and known from then on."""
    entry = await cache.get(key)
    return await computed(cache, key, compute) if entry is None else unpack(entry)


async def computed(cache: Cache, key: str, compute: Callable[[], Awaitable[Result]]) -> Result:
    result = await compute()
    await cache.put(key, pack(result))
    return result
