"""Answers that were computed before."""

from __future__ import annotations

from service.cache.store import Cache, MemoryCache, RedisCache
from service.settings import Settings


def make_cache(settings: Settings) -> Cache:
    if settings.redis_url:
        return RedisCache(
            settings.redis_url, settings.redis_timeout, settings.cache_ttl, settings.cache_entry_bytes
        )
    return MemoryCache(settings.cache_bytes, settings.cache_entry_bytes)
