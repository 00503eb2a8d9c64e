"""No wait of the Redis dispatcher is without an end, whatever the client below it swallows."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis.exceptions import ResponseError

from service.contracts import Outcome
from service.errors import DeadlineExceeded, Unavailable
from service.redis import connections, keys
from service.redis import dispatcher as dispatcher_module
from service.redis.connections import CONNECTIONS, connect, connect_blocking, persist
from service.redis.streams import Entry
from service.redis.subscriber import Subscriber
from service.shutdown import end
from service.work import Result
from tests.service.dispatchers import EchoDispatcher
from tests.service.ends import ends, run_with, until


@contextmanager
def deaf_server() -> Iterator[str]:
    """Takes connections and never says a word: a Redis that froze, or whose machine is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


async def deaf_to_cancellation(seconds: float) -> None:
    """As `asyncio.wait_for` may be on Python 3.11: the cancellation is lost, the wait goes on."""
    finish = time.monotonic() + seconds
    while (left := finish - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            return


def test_patience_ends_though_a_cancellation_is_lost():
    async def run() -> None:
        async def failing() -> None:
            await deaf_to_cancellation(5)
            raise ConnectionError

        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await persist(failing, asyncio.get_running_loop().time() + 0.2)
        assert time.monotonic() - started < 2

    asyncio.run(run())


def test_a_request_ends_at_its_deadline_though_its_cancellation_is_lost(redis_server, monkeypatch):
    """The one cancellation that the deadline sends comes while the answer is looked for."""
    monkeypatch.setattr(dispatcher_module, "LOOK", 0.05)

    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            await both.worker(dispatcher)

            async def look_in_vain(*_: object) -> tuple[bool, None]:
                await deaf_to_cancellation(5)
                return True, None

            monkeypatch.setattr(both.api, "_look", look_in_vain)
            waiting = asyncio.create_task(both.api.submit(run_with(seconds=0.5)))
            await until(lambda: len(dispatcher.runs) == 1)
            with pytest.raises(DeadlineExceeded):
                await asyncio.wait_for(waiting, 5)

    asyncio.run(run())


def test_an_answer_that_takes_several_looks_comes_and_one_that_nobody_will_give_is_not_awaited(
    redis_server, monkeypatch
):
    monkeypatch.setattr(dispatcher_module, "LOOK", 0.05)

    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            await both.worker(dispatcher)
            looked, look = 0, both.api._look

            async def counted(name: str) -> object:
                nonlocal looked
                looked += 1
                return await look(name)

            monkeypatch.setattr(both.api, "_look", counted)
            slow = asyncio.create_task(both.api.submit(run_with(b"slow")))
            await until(lambda: looked > 2)
            dispatcher.open.set()
            assert (await slow).content == b"slow"

            dispatcher.open.clear()
            forgotten = asyncio.create_task(both.api.submit(run_with(b"forgotten")))
            await until(lambda: len(dispatcher.runs) == 2)
            await both.client.delete(*await both.client.keys(keys.upload("*")))
            with pytest.raises(Unavailable, match="lost"):
                await asyncio.wait_for(forgotten, 5)
            dispatcher.open.set()

    asyncio.run(run())


def test_an_answer_is_found_though_it_cannot_be_heard_of(redis_server, monkeypatch):
    """Redis may take no more connections, while those that are there still work."""
    monkeypatch.setattr(dispatcher_module, "LOOK", 0.1)

    async def run() -> None:
        async with ends(redis_server.url) as both:
            await both.worker(EchoDispatcher())
            await both.api.subscriber.stop()
            assert (await both.api.submit(run_with())).content == b"picture"
            await both.api.subscriber.start()

    asyncio.run(run())


def test_those_who_wait_share_one_connection(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            await both.worker(dispatcher, places=100)
            waiting = [asyncio.create_task(both.api.submit(run_with(b"%d" % i))) for i in range(80)]
            await until(lambda: len(dispatcher.runs) == 80)
            async with asyncio.TaskGroup() as watchers:
                for id in range(50):
                    watchers.create_task(wait_a_moment(both.api.subscriber, f"job {id}"))
            subscribed = [one for one in await both.client.client_list() if int(one["sub"]) > 0]
            assert len(subscribed) == 1
            dispatcher.open.set()
            assert len(await asyncio.gather(*waiting)) == 80

    asyncio.run(run())


async def wait_a_moment(subscriber: Subscriber, id: str) -> None:
    async with subscriber.waiting(id, watch=True) as woken:
        await asyncio.wait_for(woken.wait(), 5)  # by the confirmation that nothing is missed from here on


def test_who_waits_hears_again_after_the_connection_was_lost(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            await both.worker(dispatcher)
            waiting = asyncio.create_task(both.api.submit(run_with()))
            await until(lambda: len(dispatcher.runs) == 1)
            for one in await both.client.client_list():
                if int(one["sub"]) > 0:
                    await both.client.client_kill_filter(_id=one["id"])
            dispatcher.open.set()
            assert (await asyncio.wait_for(waiting, 4)).content == b"picture"

    asyncio.run(run())


def test_a_surprise_does_not_end_the_view_of_the_fleet(redis_server, caplog, monkeypatch):
    async def surprise() -> None:
        raise ZeroDivisionError

    async def run() -> None:
        async with ends(redis_server.url) as both:
            await both.worker(EchoDispatcher())
            monkeypatch.setattr(both.api.fleet, "refresh", surprise)
            await until(lambda: "workers cannot be seen" in caplog.text)
            monkeypatch.undo()
            assert (await both.api.submit(run_with())).content == b"picture"
            assert both.api._watching
            assert not both.api._watching.done()

    asyncio.run(run())


def test_a_read_that_waits_gives_up_a_redis_that_says_nothing(monkeypatch):
    monkeypatch.setattr(connections, "SLACK", 0.2)

    async def run(url: str) -> None:
        reader = connect_blocking(url, 0.1)
        with pytest.raises(connections.FAILURES):
            await asyncio.wait_for(reader.xreadgroup("g", "c", {"s": ">"}, block=100), 5)
        await reader.aclose()

    with deaf_server() as url:
        asyncio.run(run(url))


def test_a_burst_is_answered_and_leaves_few_connections(redis_server):
    async def run() -> None:
        client = connect(redis_server.url)
        assert all(await asyncio.gather(*(client.ping() for _ in range(400))))
        assert len(await client.client_list()) <= CONNECTIONS
        await client.aclose()

    asyncio.run(run())


def test_an_answer_that_redis_never_takes_holds_its_place_no_longer_than_its_deadline(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            consumer = await both.worker(EchoDispatcher(), places=1)
            settle = consumer._streams.settle

            async def refusing(entry: Entry, outcome: Outcome, death: str = "") -> str:
                if isinstance(outcome, Result) and outcome.content == b"too large":
                    raise ResponseError("string exceeds maximum allowed size")
                return await settle(entry, outcome, death)

            consumer._streams.settle = refusing  # type: ignore[method-assign]
            with pytest.raises(DeadlineExceeded):
                await both.api.submit(run_with(b"too large", seconds=0.5))
            assert (await both.api.submit(run_with(b"small", seconds=10))).content == b"small"

    asyncio.run(run())


def test_ending_insists():
    async def run() -> None:
        lost = 0

        async def stubborn() -> None:
            nonlocal lost
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
            await asyncio.Event().wait()

        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        await asyncio.wait_for(end([task]), 5)
        assert lost == 1
        assert task.cancelled()

    asyncio.run(run())


def test_a_worker_leaves_in_time_though_redis_is_frozen(redis_server):
    """With many jobs in its hands, each of which would be handed on with a command that gets no reply."""

    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            consumer = await both.worker(dispatcher, places=8)
            waiting = [asyncio.create_task(both.api.submit(run_with(b"%d" % i))) for i in range(8)]
            await until(lambda: len(dispatcher.runs) == 8)
            redis_server.process.send_signal(19)  # SIGSTOP
            thaw = threading.Timer(30, lambda: redis_server.process.send_signal(18))
            thaw.start()
            started = time.monotonic()
            await consumer.stop(0.1)
            took = time.monotonic() - started
            thaw.cancel()
            redis_server.process.send_signal(18)
            both.consumers.clear()
            assert took < 15
            other = EchoDispatcher()
            await both.worker(other)
            assert len(await asyncio.gather(*waiting)) == 8

    asyncio.run(run())
