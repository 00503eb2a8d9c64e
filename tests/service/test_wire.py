"""What travels through Redis arrives as it was sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.contracts import Outcome
from service.errors import Problem
from service.redis.fleet import Announcement
from service.redis.wire import deadline_from, outcome_fields, outcome_from, upload_fields, work_from
from service.work import Deadline, InpaintParameters, Result, Run, UpscaleParameters, Work
from tests.service.dispatchers import EchoDispatcher
from tests.service.ends import Ends, ends, until


def read_back(outcome: Outcome) -> Outcome:
    return outcome_from({name.encode(): value for name, value in outcome_fields(outcome).items()})


def through_redis(work: Work, deadline: Deadline) -> dict[bytes, bytes]:
    return {name.encode(): value for name, value in upload_fields(work, deadline).items()}


files = st.fixed_dictionaries(
    {"image": st.binary(max_size=50)},
    optional={"mask": st.binary(max_size=20), "sketch": st.binary(max_size=20)},
)


@given(files=files, grow=st.integers(-256, 256))
def test_works_survive_the_wire(files, grow):
    parameters = InpaintParameters(grow=grow, model="echo")
    sent = Work.create("inpaint", "echo", "digest", parameters, files, "id")
    upload = through_redis(sent, Deadline.after(9, "RETOUCH_TIMEOUT"))
    assert work_from(upload) == sent
    left = deadline_from(upload, 7.5)
    assert left.left == pytest.approx(7.5, abs=1)
    assert (left.setting, left.seconds) == ("RETOUCH_TIMEOUT", 9)


def test_enlarging_survives_the_wire():
    sent = Work.create("upscale", "m", "digest", UpscaleParameters(scale=2.5), {"image": b"x"})
    assert work_from(through_redis(sent, Deadline.after(9, ""))) == sent


@given(st.binary(max_size=50), st.none() | st.floats(0, 1))
def test_results_survive_the_wire(content, hole):
    result = Result(content, "image/png", "m", 3, 4, hole, 5, {"decode": 0.5})
    assert read_back(result) == result


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_problems_survive_the_wire(kind):
    if not issubclass(kind, Problem):
        return
    problem = read_back(kind("what\nhappened", retry_after=3.5, limit=7))
    assert type(problem) is kind
    assert (problem.detail, problem.retry_after, problem.extra) == ("what\nhappened", 3.5, {"limit": 7})


# What the first release with this wire writes. A later one writes other bytes only where it must, keeps these
# beside its own, and goes on reading them: then old and new processes may be replaced one after the other.
# What was written before this (answers in streams, without limits and owners) is not understood any more.
UPLOAD = {
    b"head": b'{"task": "inpaint", "model": "echo", "request_id": "r1", "owner": "0a", "weights": "d", '
    b'"cache_key": "k1", "parameters": {"grow": 3}, "limit": {"setting": "RETOUCH_TIMEOUT", "seconds": 9}}',
    b"image": b"picture",
    b"mask": b"hole",
}
RESULT = {
    b"head": b'{"result": {"media_type": "image/png", "model": "echo", "width": 3, "height": 4, "hole": 0.5, '
    b'"windows": 2}, "timings": {"decode": 0.5}}',
    b"content": b"answer",
}
PROBLEM = {
    b"head": b'{"problem": {"kind": "Unprocessable", "detail": "a full hole", "retry_after": null, '
    b'"extra": {"limit": 3}}}',
}
WORKER = (
    b'17 {"models": [{"name": "echo", "task": "inpaint", "digest": "d"}], "defaults": {"inpaint": "echo"}, '
    b'"seconds": 0.5, "version": 1, "options": {"inpaint": ["extend", "feather", "format", "grow", '
    b'"keep_metadata", "mask_mode", "model", "quality", "seed"], "upscale": ["format", "height", '
    b'"keep_metadata", "model", "quality", "scale", "width"]}}'
)
# As the commits before this wire was written down announced their workers.
EARLIER_WORKER = (
    b'17 {"models": [{"name": "echo", "task": "inpaint", "digest": "d"}], "defaults": {}, "seconds": null}'
)

WORK = Work(
    "inpaint",
    "echo",
    InpaintParameters(grow=3),
    {"image": b"picture", "mask": b"hole"},
    "k1",
    "r1",
    "0a",
    "d",
)
ANSWER = Result(b"answer", "image/png", "echo", 3, 4, 0.5, 2, {"decode": 0.5})


def encoded(fields: dict[str, bytes]) -> dict[bytes, bytes]:
    return {name.encode(): value for name, value in fields.items()}


def test_what_this_release_writes_is_what_is_written_down():
    assert encoded(upload_fields(WORK, Deadline(0, "RETOUCH_TIMEOUT", 9))) == UPLOAD
    assert encoded(outcome_fields(ANSWER)) == RESULT
    assert encoded(outcome_fields(errors.Unprocessable("a full hole", limit=3))) == PROBLEM
    model = {"name": "echo", "task": "inpaint", "digest": "d"}
    assert b"17 " + Announcement([model], {"inpaint": "echo"}, 0.5).pack().encode() == WORKER


def test_what_each_release_wrote_is_understood():
    assert work_from(UPLOAD) == WORK
    assert outcome_from(RESULT) == ANSWER
    assert outcome_from(PROBLEM).detail == "a full hole"
    for line in (WORKER, EARLIER_WORKER):
        seen, announced = Announcement.unpack(line)
        assert (seen, announced.models[0]["name"]) == (17, "echo")
        assert "grow" in announced.options["inpaint"]


STREAM, CHANNEL = "retouch:jobs:echo:interactive", "retouch:answers:p1"
TURNS = f"retouch:turns:{STREAM}"


def test_what_an_api_process_of_the_release_before_sent_is_answered(redis_server):
    """By the entries that it makes, as they are written down here."""

    async def run() -> None:
        async with ends(redis_server.url) as both, both.client.pubsub() as heard:
            await heard.subscribe(CHANNEL)
            await both.worker(EchoDispatcher(), digest="d")
            async with both.client.pipeline(transaction=True) as sent:
                sent.hset("retouch:upload:1", mapping=decoded(UPLOAD))
                sent.pexpire("retouch:upload:1", 9000)
                sent.rpush(f"{TURNS}:0a", f"1 {CHANNEL}")
                sent.rpush(TURNS, "0a")
                sent.xadd(STREAM, {"job": "1", "channel": CHANNEL, "turn": "yes"})
                await sent.execute()
            spoken: list[str] = []
            await until(lambda: hear(heard, spoken))
            assert spoken == ["1"]
            stored = await both.client.hgetall("retouch:outcome:1")
            answer = outcome_from({name.encode(): value.encode() for name, value in stored.items()})
            assert (answer.content, answer.model, answer.hole) == (b"picture", "echo", 0.25)
            assert json.loads(stored["head"]).keys() == json.loads(RESULT[b"head"]).keys()
            await until(lambda: only(both, {"retouch:outcome:1"}))

    asyncio.run(run())


def test_what_a_worker_of_the_release_before_does_is_understood(redis_server):
    async def run() -> None:
        async with ends(redis_server.url) as both:
            now, _ = await both.client.time()
            await both.client.hset("retouch:fleet", "w1", WORKER.replace(b"17 ", b"%d " % now))
            await both.api.fleet.refresh()
            waiting = asyncio.create_task(both.api.submit(Run(WORK, Deadline.after(9, "RETOUCH_TIMEOUT"))))
            await until(lambda: both.client.exists(STREAM))
            ((_, ((entry, fields),)),) = await both.client.xreadgroup("workers", "w1", {STREAM: ">"})
            assert fields["turn"] == "yes"
            assert await both.client.lpop(TURNS) == "0a"
            work, _, channel = (await both.client.lpop(f"{TURNS}:0a")).partition(" ")
            assert (fields["job"], fields["channel"]) == (work, channel)
            upload = await both.client.hgetall(f"retouch:upload:{work}")
            assert upload.items() >= decoded(UPLOAD).items()
            async with both.client.pipeline(transaction=True) as done:
                done.xack(STREAM, "workers", entry)
                done.xdel(STREAM, entry)
                done.unlink(f"retouch:upload:{work}")
                done.hset(f"retouch:outcome:{work}", mapping=decoded(RESULT))
                done.publish(channel, work)
                await done.execute()
            assert await waiting == ANSWER

    asyncio.run(run())


def decoded(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


async def hear(channel: Any, spoken: list[str]) -> bool:
    message = await channel.get_message(ignore_subscribe_messages=True)
    spoken += [message["data"]] if message else []
    return bool(spoken)


async def only(both: Ends, names: set[str]) -> bool:
    return await both.left() == names


def with_more(fields: dict[bytes, bytes], **more: object) -> dict[bytes, bytes]:
    return fields | {b"head": json.dumps(json.loads(fields[b"head"]) | more).encode(), b"more": b"bytes"}


def test_facts_that_a_later_release_adds_are_passed_over():
    assert work_from(with_more(UPLOAD, tomorrow={"a": 1})) == WORK
    result = json.loads(RESULT[b"head"])["result"] | {"tomorrow": 1}
    assert outcome_from(with_more(RESULT, tomorrow=1, result=result)) == ANSWER
    _, announced = Announcement.unpack(WORKER[:-1] + b', "tomorrow": 1}')
    assert announced.version == 1


def test_an_option_that_a_worker_does_not_know_is_not_left_out():
    """It is written because the answer depends on it."""
    with pytest.raises(errors.Unavailable, match="sepia"):
        work_from(with_more(UPLOAD, parameters={"grow": 3, "sepia": True}))


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {b"head": b"\xff"},
        {b"head": b"[]"},
        {b"head": RESULT[b"head"]},
        {b"head": RESULT[b"head"].replace(b"image/png", b"text/html"), b"content": b"<script>"},
        {b"head": RESULT[b"head"].replace(b"0.5,", b'"half",'), b"content": b"answer"},
        {b"head": b'{"problem": {}}'},
        {b"head": b'{"problem": 3}'},
    ],
)
def test_an_outcome_that_is_none_is_a_failure_and_not_served(stored):
    assert isinstance(outcome_from(stored), errors.ComputeFailed)
