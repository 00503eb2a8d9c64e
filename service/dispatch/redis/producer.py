"""The API's side: put a job in, wait for its outcome."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError

from service.dispatch.redis import keys, scripts
from service.dispatch.redis.client import FAILURES, SLACK, Backoff, connect, persist
from service.dispatch.redis.fleet import Fleet
from service.dispatch.redis.keys import Priority
from service.dispatch.redis.lines import Lines, paired
from service.dispatch.redis.wire import Outcome, outcome_from, upload_fields
from service.errors import DeadlineExceeded, NotFound, NotSupported, Overloaded, Problem, Unavailable
from service.jobs.job import Job, Result, Task
from service.observability.metrics import Metrics
from service.settings import Settings
from service.tasks import end

LOOK = 5.0  # seconds without an answer after which one who waits looks whether there is still a job
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
        self._lines = Lines(settings.redis_url)
        self._waiting = Lines(settings.redis_url, LOOK + SLACK)
        self.fleet = Fleet(self._client)
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._watching: asyncio.Task[None] | None = None
        self._leavings: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        self._watching = asyncio.create_task(self.fleet.watch())

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
            async with asyncio.timeout_at(until):
                await self.put(name, job, "interactive", self._settings.max_wait)
                outcome = await self._outcome(name, until)
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
        channel: str = "",
        record: Mapping[str, str] = NO_RECORD,
        record_seconds: float = 0,
        key: tuple[str, str] = ("", ""),
    ) -> str:
        """Accept the job: from here on it has an answer. Overloaded or Unavailable if it cannot be.

        `channel` is told of all that becomes of it. `key` is an idempotency key and what it is to stand for;
        returned is what it does stand for.
        """
        stream = keys.stream(job.model, priority)
        life = max(1, int(1000 * (job.deadline - time.monotonic())))
        upload = keys.upload(name)
        files = [part for pair in upload_fields(job).items() for part in pair]
        touched = [stream, upload, keys.outcome(name), keys.record(name), keys.idempotency(key[0])]
        fields = [part for pair in record.items() for part in pair]
        try:
            limit = self.fleet.limit(job.model, priority, max_wait)
            facts = [keys.GROUP, limit, name, channel, int(1000 * record_seconds), key[1], *fields]
            commands = (
                ("HSET", upload, *files),
                ("PEXPIRE", upload, life),
                scripts.call(scripts.SUBMIT, touched, facts),
            )
            try:
                replies = await self._lines.transaction(*commands)
            except ConnectionError:
                # A line that has long been idle may be dead without a word. This may be said twice.
                replies = await self._lines.transaction(*commands)
            *_, (accepted, waiting, known) = replies
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

    async def _outcome(self, name: str, until: float) -> Outcome:
        loop, backoff = asyncio.get_running_loop(), Backoff()
        while (left := until - loop.time()) > 0:
            try:
                if outcome := await self._wait(name, min(left, LOOK)):
                    return outcome
            except FAILURES:
                await backoff.pause()
            waiting, outcome = await persist(lambda: self._look(name), until)
            if outcome:
                return outcome
            if not waiting:
                return Unavailable("The queue lost this request; send it again.", retry_after=1)
        raise TimeoutError

    async def _wait(self, name: str, seconds: float) -> Outcome | None:
        block = ("XREAD", "BLOCK", max(1, int(1000 * seconds)), "STREAMS", keys.outcome(name), "0")
        [read] = await self._waiting.exchange(block)
        return outcome_from(paired(read[0][1][0][1])) if read else None

    async def _look(self, name: str) -> tuple[bool, Outcome | None]:
        """Whether there is anything to wait for, and the outcome. Asked in this order: an outcome ends it."""
        waiting, read = await self._lines.exchange(
            ("EXISTS", keys.upload(name)), ("XRANGE", keys.outcome(name), "-", "+")
        )
        return bool(waiting), outcome_from(paired(read[0][1])) if read else None

    async def _forget(self, name: str) -> None:
        """Time would delete it too; but while nobody waits, nobody should compute."""
        await asyncio.sleep(AFTERWARDS)
        until = asyncio.get_running_loop().time() + PATIENCE
        with suppress(TimeoutError):
            gone = ("UNLINK", keys.upload(name), keys.outcome(name))
            await persist(lambda: self._lines.exchange(gone), until)

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
        await end([*filter(None, [self._watching]), *self._leavings])
        self._lines.close()
        self._waiting.close()
        await self._client.aclose()
