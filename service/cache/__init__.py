"""Answers that were computed before."""

from __future__ import annotations

from service.cache.store import Cache, MemoryCache, RedisCache
from service.settings import Settings


def make_cache(settings: Settings) -> Cache:
    # Its own where jobs are in Redis too: a cache that is full must evict, and jobs must not be evicted.
    url = settings.cache_url or settings.redis_url
    if url:
        return RedisCache(url, settings.redis_timeout, settings.cache_ttl, settings.cache_entry_bytes)
    return MemoryCache(settings.cache_bytes, settings.cache_entry_bytes)
