"""The streams between API processes and workers: both ends in this process, a real Redis between them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from service import errors
from service.errors import DeadlineExceeded, NotFound, Overloaded, Poisoned, Unavailable
from service.redis import fleet, keys
from service.redis.consumer import MAX_DELIVERIES, Consumer
from service.redis.wire import OPTIONS
from service.work import InpaintParameters, Result, Run
from tests.service.conftest import start_redis
from tests.service.dispatchers import EchoDispatcher, run_of
from tests.service.ends import LEASE, Ends, ends, run_with, until


def freeze(consumer: Consumer) -> None:
    """As SIGKILL would: what it holds stays held, and no lease is renewed."""
    for task in (*consumer._loops, *consumer._working):
        task.cancel()


def counted(consumer: Consumer, event: str) -> float:
    return consumer._metrics.entries.labels(event)._value.get()


def test_a_job_goes_round_and_leaves_nothing(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            await both.worker(EchoDispatcher())
            assert both.api.resolve("inpaint", None) == ("echo", "digest")
            results = await asyncio.gather(*(both.api.submit(run_with(b"%d" % i)) for i in range(50)))
            assert [result.content for result in results] == [b"%d" % i for i in range(50)]
            assert results[0].timings == {"decode": 0.001}
            assert results[0].hole == 0.25
            await until(lambda: empty(both))

    asyncio.run(run())


async def empty(both: Ends) -> bool:
    return await only(both, set())


async def only(both: Ends, expected: set[str]) -> bool:
    return await both.left() == expected


def test_a_workers_problem_is_the_callers(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.failure = errors.Unprocessable("The hole covers the whole picture.", limit=3)
            await both.worker(dispatcher)
            with pytest.raises(errors.Unprocessable, match="covers") as raised:
                await both.api.submit(run_with())
            assert raised.value.extra == {"limit": 3}
            dispatcher.failure = ValueError("a bug")
            with pytest.raises(errors.ComputeFailed):
                await both.api.submit(run_with())

    asyncio.run(run())


def test_before_any_worker_nothing_is_promised(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            assert not both.api.ready()[0]
            with pytest.raises(Unavailable):
                both.api.resolve("inpaint", None)
            consumer = await both.worker(EchoDispatcher())
            assert both.api.ready()[0]
            with pytest.raises(NotFound):
                both.api.resolve("inpaint", "other")
            await consumer.stop(5)
            await both.api.fleet.refresh()
            with pytest.raises(Unavailable):
                await both.api.submit(run_with())
            assert both.api.ready()[0]

    asyncio.run(run())


def test_a_worker_holds_no_more_than_its_places(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            await both.worker(dispatcher, places=3)
            waiting = [asyncio.create_task(both.api.submit(run_with(b"%d" % i))) for i in range(8)]
            await until(lambda: len(dispatcher.runs) == 3)
            await asyncio.sleep(2 * LEASE)
            assert len(dispatcher.runs) == 3
            assert (await both.client.xpending(both.stream, keys.GROUP))["pending"] == 3
            dispatcher.open.set()
            assert len(await asyncio.gather(*waiting)) == 8

    asyncio.run(run())


def test_a_long_job_keeps_its_lease(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            slow, other = EchoDispatcher(), EchoDispatcher()
            slow.open.clear()
            await both.worker(slow)
            waiting = asyncio.create_task(both.api.submit(run_with()))
            await until(lambda: len(slow.runs) == 1)
            await both.worker(other)
            await asyncio.sleep(4 * LEASE)
            slow.open.set()
            await waiting
            assert len(slow.runs) == 1
            assert not other.runs

    asyncio.run(run())


def test_a_dead_workers_jobs_are_taken_over(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            dead, living = EchoDispatcher(), EchoDispatcher()
            dead.open.clear()
            first = await both.worker(dead)
            waiting = [asyncio.create_task(both.api.submit(run_with(b"%d" % i))) for i in range(4)]
            await until(lambda: len(dead.runs) == 4)
            freeze(first)
            second = await both.worker(living)
            results = await asyncio.gather(*waiting)
            assert {result.content for result in results} == {b"0", b"1", b"2", b"3"}
            assert counted(second, "reclaimed") == 4
            await until(lambda: empty(both))

    asyncio.run(run())


def test_an_answer_is_stored_once_however_often_it_was_computed(redis_server):
    """A worker frozen past its lease comes back with a result that another has given already."""

    async def run() -> None:
        async with ends(redis_server.url) as both:
            slow, quick = EchoDispatcher(), EchoDispatcher()
            slow.open.clear()
            first = await both.worker(slow)
            waiting = asyncio.create_task(both.api.submit(run_with()))
            await until(lambda: len(slow.runs) == 1)
            first._loops[1].cancel()  # the heartbeat stands still, the computation does not
            second = await both.worker(quick)
            await waiting
            slow.open.set()
            await until(lambda: counted(first, "duplicate") == 1)
            assert counted(second, "answered") == 1
            assert counted(first, "answered") == 0
            await until(lambda: empty(both))

    asyncio.run(run())


def test_a_poisoned_job_dies_alone_after_three_deliveries(redis_server):
    class Deadly(EchoDispatcher):
        """Dies of one picture: from then on nothing comes from its worker."""

        consumer: Consumer

        async def submit(self, run: Run) -> Result:
            if run.work.files["image"] == b"poison":
                self.runs.append(run)
                freeze(self.consumer)
                await asyncio.Event().wait()
            return await super().submit(run)

    async def run() -> None:
        async with ends(redis_server.url) as both:
            first = Deadly()
            first.open.clear()
            first.consumer = await both.worker(first)
            waiting = [
                asyncio.create_task(both.api.submit(run_with(content))) for content in (b"0", b"1", b"2")
            ]
            await until(lambda: len(first.runs) == 3)
            waiting.append(asyncio.create_task(both.api.submit(run_with(b"poison"))))
            await until(lambda: len(first.runs) == 4)
            for delivery in range(2, MAX_DELIVERIES + 1):
                next_one = Deadly()
                next_one.consumer = await both.worker(next_one)
                await until(lambda dispatcher=next_one: b"poison" in dispatcher.images)
                assert not waiting[3].done(), delivery
            last = EchoDispatcher()
            await both.worker(last)
            with pytest.raises(Poisoned):
                await waiting[3]
            assert {result.content for result in await asyncio.gather(*waiting[:3])} == {b"0", b"1", b"2"}
            assert b"poison" not in last.images
            ((_, letter),) = await both.client.xrange(keys.DEAD)
            assert letter["stream"] == both.stream
            assert "3 deliveries" in letter["reason"]
            assert await both.client.ttl(keys.DEAD) > 0
            await until(lambda: only(both, {keys.DEAD}))

    asyncio.run(run())


def test_deadlines_and_cancellation_travel(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            consumer = await both.worker(dispatcher, places=1)
            running = asyncio.create_task(both.api.submit(run_with(b"running")))
            await until(lambda: len(dispatcher.runs) == 1)
            assert dispatcher.runs[0].deadline.left == pytest.approx(20, abs=2)
            queued = asyncio.create_task(both.api.submit(run_with(b"queued")))
            with pytest.raises(DeadlineExceeded):
                await both.api.submit(run_with(b"short", seconds=0.2))
            # Both clients leave; the one that runs learns it with the next heartbeat.
            running.cancel()
            queued.cancel()
            await until(dispatcher.runs[0].cancelled.is_set)
            dispatcher.open.set()
            assert (await both.api.submit(run_with(b"last"))).content == b"last"
            assert dispatcher.images == [b"running", b"last"]
            await until(lambda: counted(consumer, "dropped") == 3)
            await until(lambda: empty(both))

    asyncio.run(run())


def test_too_long_a_queue_is_refused_with_a_time_to_come_back(redis_server):
    async def run() -> None:
        async with ends(redis_server.url, max_wait=10.0) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            await both.worker(dispatcher, places=1, pace=2.0)  # half a work a second: five may wait
            tasks = [asyncio.create_task(both.api.submit(run_with())) for _ in range(12)]
            await until(lambda: sum(task.done() for task in tasks) >= 5)
            refused = [task.exception() for task in tasks if task.done()]
            assert all(isinstance(error, Overloaded) for error in refused)
            assert all(1 <= error.retry_after <= 10 for error in refused)  # type: ignore[union-attr]
            assert 5 <= await both.client.xlen(both.stream) <= 7
            dispatcher.open.set()
            answered = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(answer, Result) for answer in answered) == 12 - len(refused)

    asyncio.run(run())


def test_interactive_jobs_go_first_and_batch_jobs_do_not_starve(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            await both.worker(dispatcher, places=1)
            tasks = [asyncio.create_task(both.api.submit(run_with(b"first")))]
            await until(lambda: len(dispatcher.runs) == 1)
            for number in range(3):
                batch = run_with(b"batch")
                await both.api.put(f"b{number}", batch.work, batch.deadline, "batch", 100, "nobody")
            tasks += [asyncio.create_task(both.api.submit(run_with(b"quick"))) for _ in range(20)]
            await until(lambda: until_length(both, 21))
            dispatcher.open.set()
            await asyncio.gather(*tasks)
            order = dispatcher.images
            assert order.index(b"batch") > 4
            assert b"quick" in order[order.index(b"batch") :]

    asyncio.run(run())


async def until_length(both: Ends, length: int) -> bool:
    return bool(await both.client.xlen(both.stream) == length)


def test_a_leaving_worker_finishes_what_it_can_and_hands_on_the_rest(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            slow, other = EchoDispatcher(), EchoDispatcher()
            slow.open.clear()
            first = await both.worker(slow, places=2)
            tasks = [asyncio.create_task(both.api.submit(run_with(b"%d" % i))) for i in range(2)]
            await until(lambda: len(slow.runs) == 2)
            await first.stop(0.1)
            assert counted(first, "released") == 2
            both.consumers.clear()
            await both.worker(other)
            started = time.monotonic()
            assert len(await asyncio.gather(*tasks)) == 2
            assert time.monotonic() - started < 5
            await until(lambda: empty(both))

    asyncio.run(run())


def test_the_loss_of_everything_in_redis_is_survived(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            await both.worker(dispatcher)
            lost = asyncio.create_task(both.api.submit(run_with(seconds=2)))
            await until(lambda: len(dispatcher.runs) == 1)
            await both.client.flushall()
            dispatcher.open.set()
            with pytest.raises(DeadlineExceeded):
                await lost
            assert (await both.api.submit(run_with(b"again"))).content == b"again"

    asyncio.run(run())


def test_redis_away_is_told_at_once_and_survived_by_accepted_jobs(tmp_path, monkeypatch):
    persistent = ("--appendonly", "yes")
    server = start_redis(tmp_path, options=persistent)

    async def run() -> None:
        nonlocal server
        async with ends(server.url) as both:
            dispatcher = EchoDispatcher()
            dispatcher.open.clear()
            consumer = await both.worker(dispatcher, places=1)
            accepted, put = [], both.api.put

            async def put_and_count(*arguments: Any, **options: Any) -> str:
                accepted.append(await put(*arguments, **options))
                return accepted[-1]

            # Being in the stream is not enough: until the API has heard of it, a job is refused.
            monkeypatch.setattr(both.api, "put", put_and_count)
            tasks = [asyncio.create_task(both.api.submit(run_with(b"%d" % i))) for i in range(3)]
            await until(lambda: len(accepted) == 3 and len(dispatcher.runs) == 1)
            server.process.kill()
            server.process.wait()
            with pytest.raises(Unavailable) as raised:
                await both.api.submit(run_with())
            assert raised.value.retry_after
            dispatcher.open.set()
            await until(lambda: not consumer.ready()[0])
            server = await asyncio.to_thread(start_redis, tmp_path, server.port, persistent)
            results = await asyncio.gather(*tasks)
            assert [result.content for result in results] == [b"0", b"1", b"2"]
            assert sorted(dispatcher.images) == [b"0", b"1", b"2"]
            await until(lambda: empty(both))

    try:
        asyncio.run(run())
    finally:
        server.process.kill()
        server.process.wait()


def test_a_full_redis_is_a_clear_refusal(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            await both.worker(EchoDispatcher())
            await both.client.config_set("maxmemory", "1mb")
            with pytest.raises(Unavailable):
                await both.api.submit(run_with(b"x" * 100_000))
            await both.client.config_set("maxmemory", "0")
            assert (await both.api.submit(run_with())).content == b"picture"

    asyncio.run(run())


def test_what_is_not_a_work_is_dropped_and_counted_and_the_worker_lives(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            odd = [{"odd": "1"}, {"job": b"\xff\xfe", "channel": "c"}, {"job": "x"}]
            for fields in odd:  # before there is a worker, and while one waits
                await both.client.xadd(both.stream, fields)
            consumer = await both.worker(EchoDispatcher())
            await until(lambda: counted(consumer, "malformed") == 3)
            for fields in odd:
                await both.client.xadd(both.stream, fields)
            await until(lambda: counted(consumer, "malformed") == 6)
            assert (await both.api.submit(run_with(b"picture"))).content == b"picture"
            assert consumer.ready()[0]
            await until(lambda: empty(both))

    asyncio.run(run())


def test_what_a_dead_worker_left_may_be_no_work_too(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            await both.client.xgroup_create(both.stream, keys.GROUP, "0", mkstream=True)
            await both.client.xadd(both.stream, {"odd": "1"})
            await both.client.xreadgroup(keys.GROUP, "dead", {both.stream: ">"})
            consumer = await both.worker(EchoDispatcher())
            await until(lambda: counted(consumer, "malformed") == 1)
            assert (await both.api.submit(run_with())).content == b"picture"
            await until(lambda: empty(both))

    asyncio.run(run())


def test_a_foreign_value_under_an_uploads_name_holds_up_nobody(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            await both.client.set(keys.upload("odd"), "a string")
            await both.client.hset(keys.upload("garbled"), mapping={"head": "{"})
            await both.client.expire(keys.upload("garbled"), 60)
            for id in ("odd", "garbled"):
                await both.client.xadd(both.stream, {"job": id, "channel": "nobody"})
            consumer = await both.worker(EchoDispatcher(), places=1)
            assert (await both.api.submit(run_with(seconds=5))).content == b"picture"
            assert consumer.ready()[0]
            await both.client.unlink(keys.outcome("garbled"))
            await until(lambda: empty(both))

    asyncio.run(run())


def test_an_announcement_that_cannot_be_read_hides_no_other_worker(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            for name, line in {"a": b"\xff", "b": b"17 [", "c": b"17 {}", "d": b"x {}"}.items():
                await both.client.hset(keys.FLEET, name, line)
            await both.worker(EchoDispatcher())
            assert (await both.api.submit(run_with())).content == b"picture"

    asyncio.run(run())


def test_a_work_with_an_option_that_a_worker_does_not_know_waits_for_its_upgrade(redis_server, monkeypatch):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            dispatcher = EchoDispatcher()
            monkeypatch.setitem(fleet.OPTIONS, "inpaint", OPTIONS["inpaint"] - {"grow"})
            await both.worker(dispatcher)
            grown = run_of("inpaint", "echo", b"grown", InpaintParameters(grow=1))
            with pytest.raises(Unavailable, match="grow"):
                await both.api.submit(grown)
            assert (await both.api.submit(run_with())).content == b"picture"
            assert dispatcher.images == [b"picture"]

    asyncio.run(run())


def test_of_two_weights_of_one_model_only_the_first_are_used_until_they_are_gone(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            old, new = EchoDispatcher(), EchoDispatcher()
            first = await both.worker(old, places=1)
            await both.worker(new, places=1, digest="other")
            assert both.api.resolve("inpaint", "echo") == ("echo", "digest")
            await asyncio.gather(*(both.api.submit(run_with(b"%d" % i)) for i in range(20)))
            assert (len(old.runs), len(new.runs)) == (20, 0)
            await first.stop(5)

            async def taken_over() -> bool:
                await both.api.fleet.refresh()
                return both.api.resolve("inpaint", "echo")[1] == "other" and both.api.fleet.workers == 1

            await until(taken_over)
            # What was asked of the old weights is not answered with the new ones under the old name.
            with pytest.raises(Unavailable, match="weights"):
                await both.api.submit(run_with(b"late"))
            late = run_with(b"late job")
            await both.api.put("job", late.work, late.deadline, "batch", 100, "nobody")
            await until(lambda: len(new.runs) == 1)
            assert new.runs[0].work.key != late.work.key
            assert new.runs[0].work.weights == "other"

    asyncio.run(run())
