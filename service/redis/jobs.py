"""Jobs kept in Redis: any API process knows them, any worker computes them, none is lost with a process."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

from service.callbacks import Callbacks
from service.contracts import FINAL, GONE, Job, NewJob, Outcome, State, problem_summary, same_request
from service.errors import DeadlineExceeded, NotFound, Unavailable
from service.redis import keys, scripts
from service.redis.callbacks import CallbackQueue
from service.redis.connections import FAILURES, Backoff, connect
from service.redis.dispatcher import Record, RedisDispatcher
from service.redis.wire import outcome_from
from service.settings import Settings

LOOK = 15.0  # seconds without news after which one who watches looks for himself
LOOKS = 8  # connections with which all look, however many are woken together

LATE = DeadlineExceeded("The job took longer than RETOUCH_JOB_TIMEOUT allows.")


class RedisJobs:
    def __init__(self, settings: Settings, dispatcher: RedisDispatcher, callbacks: Callbacks) -> None:
        assert settings.redis_url
        self._settings = settings
        self._dispatcher = dispatcher
        self._client: Any = connect(settings.redis_url)
        self._looks = asyncio.Semaphore(LOOKS)
        self._callbacks = CallbackQueue(settings, callbacks, self._finished) if callbacks.on else None

    async def start(self) -> None:
        if self._callbacks:
            await self._callbacks.start()

    async def stop(self) -> None:
        if self._callbacks:
            await self._callbacks.stop()
        await self._client.aclose()

    async def create(self, new: NewJob) -> Job:
        id, work, settings = uuid.uuid4().hex, new.work, self._settings
        record = Record(
            {
                "task": work.task,
                "model": work.model,
                "owner": work.owner,
                "room": str(settings.job_bytes),
                "key_room": str(settings.key_job_bytes),
                "life": str(1000 * settings.job_ttl),
                "callback": new.callback,
                "key": new.idempotency_key,
            },
            settings.job_timeout + settings.job_ttl,
            new.idempotency_key,
            f"{id} {work.key}" if new.idempotency_key else "",
        )
        known = await self._dispatcher.put(
            id, work, new.deadline, "batch", settings.job_timeout, keys.events(id), record
        )
        if known:
            id, _, key = known.partition(" ")
            same_request(key, work.key)
        return await self.get(id)

    async def get(self, id: str) -> Job:
        async with self._looks:
            return await self._look(id)

    async def _look(self, id: str) -> Job:
        with reachable():
            # A full Redis takes no transactions, not even such as only read.
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.hgetall(keys.record(id))
                pipe.time()
                fields, (now, _) = await pipe.execute()
            if not fields:
                raise NotFound(GONE)
            record = {key.decode(): value.decode() for key, value in fields.items()}
            job = job_from(id, record)
            if job.state not in FINAL and now > float(record["deadline"]):
                job.state, job.problem = "failed", problem_summary(LATE)
            if job.state == "queued":
                stream, work = keys.stream(job.model, "batch"), f"{id} {keys.events(id)}"
                job.position = await scripts.run(self._client, scripts.AHEAD, [stream], [job.owner, work])
        return job

    async def outcome(self, id: str) -> Outcome | None:
        job = await self.get(id)
        if job.state not in FINAL:
            return None
        with reachable():
            stored = await self._client.hgetall(keys.outcome(id))
        if not stored and job.state == "done":
            raise NotFound(GONE)  # its record outlives its answer by a moment, or by what Redis evicts
        return outcome_from(stored) if stored else LATE

    async def delete(self, id: str) -> None:
        with reachable():
            key = await self._client.hget(keys.record(id), "key")
            if key is None:
                raise NotFound(GONE)
            # Its entry stays and is dropped by the worker that comes to it: there is nothing to compute.
            gone = [keys.events(id), keys.upload(id), keys.outcome(id), keys.record(id)]
            await scripts.run(self._client, scripts.FORGET, [*gone, keys.idempotency(key.decode())], [id])

    async def _finished(self, id: str) -> tuple[Job, str]:
        """The job, and where to tell that it is over."""
        url = await self._client.hget(keys.record(id), "callback")
        return await self.get(id), (url or b"").decode()

    async def watch(self, id: str) -> AsyncGenerator[Job, None]:
        backoff = Backoff()
        last: Job | None = None
        async with self._dispatcher.subscriber.waiting(id, watch=True) as woken:
            while True:
                woken.clear()
                try:
                    job = await self.get(id)
                except Unavailable:
                    await backoff.pause()
                    continue
                backoff.reset()
                if job != last:
                    yield job
                last = job
                if job.state in FINAL:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await woken.wait()


def job_from(id: str, record: Mapping[str, str]) -> Job:
    def moment(field: str) -> float | None:
        return float(record[field]) if field in record else None

    report: dict[str, Any] = json.loads(record.get("report", "{}"))
    return Job(
        id,
        "inpaint" if record["task"] == "inpaint" else "upscale",
        record["model"],
        record.get("owner", ""),
        cast(State, record["state"]),
        float(record["created"]),
        moment("started"),
        moment("finished"),
        windows_done=int(record.get("windows_done", 0)),
        windows_total=int(record.get("windows_total", 0)),
        timings=report.get("timings", {}),
        problem=report.get("problem"),
    )


@contextmanager
def reachable() -> Iterator[None]:
    try:
        yield
    except FAILURES:
        raise Unavailable("The queue cannot be reached.", retry_after=2) from None
