"""A lost cache costs speed, never an answer: against a real Redis that freezes and dies."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache import make_cache
from service.cache.answers import known, pack, unpack
from service.cache.single_flight import SingleFlight
from service.cache.store import MemoryCache, RedisCache
from service.settings import Settings
from service.work import InpaintParameters, Result, UpscaleParameters, identity
from tests.service.conftest import start_redis


def redis_cache(server, **changes):
    return RedisCache(server.url, **{"timeout": 0.2, "ttl": 60, "max_entry": 1000} | changes)


def test_redis_keeps_entries_with_a_time_to_live(redis_server):
    async def scenario():
        cache = redis_cache(redis_server)
        await cache.put("key", b"value")
        await cache.put("large", b"x" * 1001)
        found = await cache.get("key"), await cache.get("large"), await cache.get("other")
        life = await cache._client.ttl(RedisCache.PREFIX + "key")
        await cache.close()
        return found, life

    found, life = asyncio.run(scenario())
    assert found == (b"value", None, None)
    assert 0 < life <= 60


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL])
def test_a_frozen_or_dead_redis_costs_a_moment_once(redis_server, fault):
    async def scenario():
        cache = redis_cache(redis_server)
        await cache.put("key", b"value")
        redis_server.process.send_signal(fault)
        times = []
        for _ in range(20):
            started = time.monotonic()
            assert await cache.get("key") is None
            times.append(time.monotonic() - started)
        assert not cache.available
        await cache.close()
        return times

    times = asyncio.run(scenario())
    if fault == signal.SIGSTOP:
        redis_server.process.send_signal(signal.SIGCONT)
    # The first asks twice (one retry, 0.2 s each); while the breaker is open nobody asks at all.
    assert times[0] < 2
    assert sum(times[1:]) < 0.5


def test_it_comes_back_after_redis_does(redis_server, tmp_path):
    async def scenario():
        cache = redis_cache(redis_server)
        await cache.put("key", b"value")
        redis_server.process.kill()
        redis_server.process.wait()
        assert await cache.get("key") is None
        redis_server.process = start_redis(tmp_path, redis_server.port).process
        give_up = time.monotonic() + 10
        found = None
        while found is None and time.monotonic() < give_up:
            await cache.put("key", b"new")
            found = await cache.get("key")
            await asyncio.sleep(0.01)
        await cache.close()
        return found

    assert asyncio.run(scenario()) == b"new"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_memory_stays_within_its_bytes(puts):
    async def scenario():
        cache = MemoryCache(max_bytes=100, max_entry=50)
        for key, size in puts:
            await cache.put(str(key), b"x" * size)
            held = sum(len(value) for value in cache._entries.values())
            assert held == cache._bytes <= 100
            if size <= 50:
                assert await cache.get(str(key)) == b"x" * size

    asyncio.run(scenario())


def test_memory_forgets_what_was_used_longest_ago():
    async def scenario():
        cache = MemoryCache(max_bytes=20, max_entry=10)
        for key in "ab":
            await cache.put(key, b"x" * 10)
        await cache.get("a")
        await cache.put("c", b"x" * 10)
        return [key for key in "abc" if await cache.get(key)]

    assert asyncio.run(scenario()) == ["a", "c"]


def test_an_entry_survives_packing():
    result = Result(b"\x00\n{}", "image/png", "model", 3, 2, 0.5, 7)
    assert unpack("key", pack("key", result)) == result


def test_the_key_covers_everything():
    base = ("inpaint", "m", "d", InpaintParameters(), {"image": b"image", "mask": b"mask"})
    variants = [
        ("upscale", *base[1:]),
        ("upscale", "m", "d", UpscaleParameters(scale=2), {"image": b"image"}),
        ("inpaint", "n", *base[2:]),
        ("inpaint", "m", "e", *base[3:]),
        (*base[:3], InpaintParameters(grow=1), *base[4:]),
        (*base[:4], {"image": b"imag", "mask": b"emask"}),
        (*base[:4], {"image": b"image", "sketch": b"mask"}),
        (*base[:4], {"image": b"image", "mask": b"mask", "sketch": b""}),
    ]
    keys = {identity(*arguments) for arguments in (base, *variants)}
    assert len(keys) == 1 + len(variants)


def test_a_flight_ends_when_its_last_waiter_leaves():
    async def scenario():
        flights: SingleFlight[int] = SingleFlight()
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def work() -> int:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return 1

        waiters = [asyncio.create_task(flights.run("key", work)) for _ in range(2)]
        await started.wait()
        waiters[0].cancel()
        await asyncio.gather(waiters[0], return_exceptions=True)
        assert not cancelled.is_set()
        waiters[1].cancel()
        await asyncio.gather(waiters[1], return_exceptions=True)
        await cancelled.wait()

        async def quick() -> int:
            return 2

        assert await flights.run("key", quick) == (2, False)

    asyncio.run(scenario())


def test_the_cache_may_have_a_redis_of_its_own(redis_server):
    async def scenario():
        cache = make_cache(Settings(redis_url="redis://nowhere.invalid/0", cache_url=redis_server.url))
        await cache.put("key", b"value")
        found = await cache.get("key")
        await cache.close()
        return found

    assert asyncio.run(scenario()) == b"value"


RESULT = Result(b"picture", "image/png", "model", 3, 2, 0.5, 7)


def test_an_entry_that_is_not_as_it_was_written_is_a_miss():
    entry = pack("key", RESULT)

    async def scenario() -> None:
        cache = MemoryCache(max_bytes=10_000, max_entry=10_000)
        await cache.put("key", entry)
        assert await known(cache, "key") == RESULT
        await cache.put("other", entry)  # moved to another key
        assert await known(cache, "other") is None
        for at in range(len(entry)):
            await cache.put("key", entry[:at] + bytes([entry[at] ^ 1]) + entry[at + 1 :])
            assert await known(cache, "key") is None, at
            await cache.put("key", entry[:at])
            assert await known(cache, "key") is None, at

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "changes",
    [
        {"media_type": "text/html"},
        {"media_type": ["image/png"]},
        {"model": "a\r\nSet-Cookie: b"},
        {"model": None},
        {"hole": "a"},
        {"width": {}},
    ],
)
def test_an_entry_with_foreign_facts_is_a_miss(changes):
    """Written by somebody who knows the kind and the checksum."""

    async def scenario() -> None:
        cache = MemoryCache(max_bytes=10_000, max_entry=10_000)
        await cache.put("key", pack("key", replace(RESULT, **changes)))
        assert await known(cache, "key") is None

    asyncio.run(scenario())
