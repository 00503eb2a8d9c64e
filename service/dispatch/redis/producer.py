"""The API's side: put a job in, wait to be told, fetch the outcome."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from service.dispatch.redis import keys, scripts
from service.dispatch.redis.answers import Bell
from service.dispatch.redis.client import FAILURES, connect, persist
from service.dispatch.redis.fleet import Fleet
from service.dispatch.redis.keys import Priority
from service.dispatch.redis.wire import Outcome, unpack_outcome, upload_fields
from service.errors import DeadlineExceeded, NotFound, NotSupported, Overloaded, Problem, Unavailable
from service.jobs.job import Job, Result, Task
from service.observability.metrics import Metrics
from service.settings import Settings
from service.tasks import end

AFTERWARDS = 0.02  # seconds in which an answer goes out before its traces are removed
PATIENCE = 60.0  # seconds that a Redis which is away is given before something is left to its time to live
NO_RECORD: Mapping[str, str] = {}

log = logging.getLogger("retouch.dispatch")


class RedisDispatcher:
    device = "workers"

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        assert settings.redis_url
        self._settings = settings
        self._metrics = metrics
        self._client = connect(settings.redis_url)
        self._channel = keys.answers(uuid.uuid4().hex)
        self._bell = Bell(settings.redis_url, self._channel)
        self.fleet = Fleet(self._client)
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._listeners: list[asyncio.Task[None]] = []
        self._leavings: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        self._listeners = [
            asyncio.create_task(self._bell.run()),
            asyncio.create_task(self.fleet.watch()),
        ]

    def ready(self) -> tuple[bool, str]:
        if self._stopping:
            return False, "the service is stopping"
        # Once ready, always: Redis and the workers are shared, and if all processes were taken out of service
        # together nobody would be left to say when to come again.
        return self.fleet.seen, "" if self.fleet.seen else "no worker has come up yet"

    def models(self) -> list[dict[str, Any]]:
        return self.fleet.models()

    def resolve(self, task: Task, name: str | None) -> tuple[str, str]:
        return self.fleet.resolve(task, name)

    async def load(self, name: str) -> None:
        if name not in (row["name"] for row in self.fleet.models()):
            raise NotFound(f"No worker hosts a model {name!r}.")
        raise NotSupported(
            "Here workers hold the models, each those that it was started with: to load one, start workers "
            f"with `retouch worker --models {name}`; to unload it, end them."
        )

    async def unload(self, name: str) -> None:
        await self.load(name)

    async def submit(self, job: Job) -> Result:
        if self._stopping:
            raise Unavailable("The service is stopping.", retry_after=5)
        self._open += 1
        self._idle.clear()
        name = uuid.uuid4().hex
        until = asyncio.get_running_loop().time() + max(0.0, job.deadline - time.monotonic())
        try:
            with self._bell.listening(name) as bell:
                async with asyncio.timeout_at(until):
                    await self.put(name, job, "interactive", self._settings.max_wait, self._channel)
                    outcome = await self._outcome(name, bell, until)
        except TimeoutError:
            raise DeadlineExceeded(
                f"The request took longer than RETOUCH_TIMEOUT allows ({self._settings.timeout:g} s)."
            ) from None
        finally:
            # Also what a deadline or a disconnect leaves: without its upload no worker computes it.
            leaving = asyncio.create_task(self._forget(name))
            self._leavings.add(leaving)
            leaving.add_done_callback(self._leavings.discard)
            self._open -= 1
            if not self._open:
                self._idle.set()
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    async def put(
        self,
        name: str,
        job: Job,
        priority: Priority,
        max_wait: float,
        reply: str,
        record: Mapping[str, str] = NO_RECORD,
        record_seconds: float = 0,
        key: tuple[str, str] = ("", ""),
    ) -> str:
        """Accept the job: from here on it has an answer. Overloaded or Unavailable if it cannot be.

        `key` is an idempotency key and what it is to stand for; returned is what it does stand for.
        """
        stream = keys.stream(job.model, priority)
        limit = self.fleet.limit(job.model, priority, max_wait)
        life = max(1, int(1000 * (job.deadline - time.monotonic())))
        upload, files = keys.upload(name), cast(Any, upload_fields(job))
        touched = [stream, upload, keys.outcome(name), keys.record(name), keys.idempotency(key[0])]
        fields = [part for pair in record.items() for part in pair]
        try:
            self.fleet.refuse(job.model, priority, max_wait)
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hset(upload, mapping=files)
                pipe.pexpire(upload, life)
                facts: list[Any] = [
                    keys.GROUP,
                    limit,
                    name,
                    reply,
                    int(1000 * record_seconds),
                    key[1],
                    *fields,
                ]
                scripts.run(pipe, scripts.SUBMIT, touched, facts)
                *_, (accepted, waiting, known) = await pipe.execute()
            if not accepted:
                raise self.fleet.overloaded(job.model, priority, waiting, max_wait)
        except Overloaded:
            self._metrics.rejected.labels("queue").inc()
            raise
        except FAILURES as error:
            log.warning("a job cannot be put into Redis: %s", type(error).__name__)
            self._metrics.rejected.labels("redis").inc()
            raise Unavailable("The queue cannot be reached.", retry_after=2) from None
        self.fleet.accepted(job.model, priority, waiting)
        return str(known.decode())

    async def _outcome(self, name: str, bell: asyncio.Event, until: float) -> Outcome:
        while True:
            async with asyncio.timeout_at(until):
                await bell.wait()
            bell.clear()
            packed, waiting = await persist(lambda: self._look(name), until)
            if packed is not None:
                return unpack_outcome(packed)
            if not waiting:
                return Unavailable("The queue lost this request; send it again.", retry_after=1)

    async def _look(self, name: str) -> tuple[bytes | None, int]:
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.get(keys.outcome(name))
            pipe.exists(keys.upload(name))
            packed, waiting = await pipe.execute()
        return packed, waiting

    async def _forget(self, name: str) -> None:
        """Time would delete it too; but while nobody waits, nobody should compute."""
        await asyncio.sleep(AFTERWARDS)
        until = asyncio.get_running_loop().time() + PATIENCE
        with suppress(TimeoutError):
            await persist(lambda: self._client.unlink(keys.upload(name), keys.outcome(name)), until)

    async def stop(self, grace: float) -> None:
        self._stopping = True
        finish = time.monotonic() + grace
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            log.warning("stopping with %d jobs unanswered", self._open)
        if self._leavings:
            await asyncio.wait(self._leavings, timeout=max(1.0, finish - time.monotonic()))
        await end([*self._listeners, *self._leavings])
        await self._bell.close()
        await self._client.aclose()
