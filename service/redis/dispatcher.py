"""The API's side: put a work in, wait for its outcome."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from service.contracts import JOB_OVERHEAD, Outcome, no_room
from service.errors import NotFound, NotSupported, Overloaded, Problem, TooManyRequests, Unavailable
from service.observability.metrics import Metrics
from service.redis import keys, scripts
from service.redis.connections import FAILURES, connect, persist
from service.redis.fleet import Fleet
from service.redis.keys import Priority
from service.redis.subscriber import Subscriber
from service.redis.wire import outcome_from, upload_fields
from service.settings import Settings
from service.shutdown import InFlight, end
from service.work import Deadline, Result, Run, Task, Work

LOOK = 5.0  # seconds without news after which one who waits looks whether there is still a work
AFTERWARDS = 0.02  # seconds in which an answer goes out before its traces are removed
PATIENCE = 60.0  # seconds that a Redis which is away is given before something is left to its time to live

log = logging.getLogger("retouch.redis")


@dataclass(frozen=True)
class Record:
    """What is written down of a job besides its work."""

    fields: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # that it lives
    idempotency_key: str = ""
    meaning: str = ""  # what the key is to stand for


NO_RECORD = Record()


class RedisDispatcher:
    device = "workers"

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        assert settings.redis_url
        self._settings = settings
        self._metrics = metrics
        self._client: Any = connect(settings.redis_url)
        self.subscriber = Subscriber(settings.redis_url, uuid.uuid4().hex)
        self.fleet = Fleet(self._client)
        self.in_flight = InFlight()
        self._watching: asyncio.Task[None] | None = None
        self._leavings: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.subscriber.start()
        self._watching = asyncio.create_task(self.fleet.watch())

    def ready(self) -> tuple[bool, str]:
        if self.in_flight.stopping:
            return False, "the service is stopping"
        # Once ready, always: Redis and the workers are shared, and if all processes were taken out of service
        # together nobody would be left to say when to come again.
        return self.fleet.seen, "" if self.fleet.seen else "no worker has come up yet"

    def models(self) -> list[dict[str, Any]]:
        return self.fleet.models()

    def resolve(self, task: Task, name: str | None, lossy: bool = False) -> tuple[str, str]:
        return self.fleet.resolve(task, name, lossy)

    async def load(self, name: str) -> None:
        if name not in (row["name"] for row in self.fleet.models()):
            raise NotFound(f"No worker hosts a model {name!r}.")
        raise NotSupported(
            "Here workers hold the models, each those that it was started with: to load one, start workers "
            f"with `retouch worker --models {name}`; to unload it, end them."
        )

    async def unload(self, name: str) -> None:
        await self.load(name)

    async def reload(self) -> None:
        raise NotSupported("Here workers hold the models: send SIGHUP to them, and they tell us.")

    async def submit(self, run: Run) -> Result:
        id = uuid.uuid4().hex
        with self.in_flight.one():
            try:
                async with run.deadline.enforced(), self.subscriber.waiting(id) as woken:
                    channel = self.subscriber.channel
                    await self.put(
                        id, run.work, run.deadline, "interactive", self._settings.max_wait, channel
                    )
                    outcome = await self._outcome(id, run.deadline, woken)
            finally:
                # Also what a deadline or a disconnect leaves: without its upload no worker computes it.
                leaving = asyncio.create_task(self._forget(id))
                self._leavings.add(leaving)
                leaving.add_done_callback(self._leavings.discard)
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    async def put(
        self,
        id: str,
        work: Work,
        deadline: Deadline,
        priority: Priority,
        max_wait: float,
        channel: str,
        record: Record = NO_RECORD,
    ) -> str:
        """Accept the work: from here on it has an answer. Overloaded or Unavailable if it cannot be.

        `channel` is told of all that becomes of it; returned is what the idempotency key stands for.
        """
        upload, life = keys.upload(id), max(1, int(1000 * deadline.left))
        touched = [keys.stream(work.model, priority), upload, keys.outcome(id), keys.record(id)]
        touched.append(keys.idempotency(record.idempotency_key))
        try:
            self.fleet.check(work.model, work.task, work.parameters)
            limit = self.fleet.limit(work.model, priority, max_wait)
            share = scripts.JOBS_SHARE if priority == "batch" else scripts.REQUESTS_SHARE
            values = [keys.GROUP, limit, id, channel, share, int(1000 * record.seconds), record.meaning]
            values += [work.bytes + JOB_OVERHEAD, work.owner]
            values += [part for pair in record.fields.items() for part in pair]
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hset(upload, mapping=upload_fields(work, deadline))
                pipe.pexpire(upload, life)
                pipe.eval(*scripts.arguments(scripts.SUBMIT, touched, values))
                *_, (said, waiting, known) = await pipe.execute()
            if said == b"queue":
                raise self.fleet.overloaded(work.model, priority, waiting, max_wait)
            if said != b"accepted":
                raise self._no_room(said.decode())
        except (Overloaded, TooManyRequests):
            self._metrics.rejected.labels("queue").inc()
            raise
        except FAILURES as error:
            log.warning("a work cannot be put into Redis: %s", type(error).__name__)
            self._metrics.rejected.labels("redis").inc()
            raise Unavailable("The queue cannot be reached.", retry_after=2) from None
        self.fleet.accepted(work.model, priority, waiting)
        return str(known.decode())

    def _no_room(self, full: str) -> Problem:
        if full == "memory":
            return Overloaded("Redis is nearly full (its maxmemory); come back later.", retry_after=30)
        of_key = full == "key"
        return no_room(self._settings.key_job_bytes if of_key else self._settings.job_bytes, of_key)

    async def _outcome(self, id: str, deadline: Deadline, woken: asyncio.Event) -> Outcome:
        until = asyncio.get_running_loop().time() + deadline.left
        while deadline.left > 0:  # looked at and not only cancelled by: a cancellation may be lost
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await woken.wait()
            woken.clear()
            try:
                waiting, outcome = await persist(lambda: self._look(id), until)
            except TimeoutError:
                break
            if outcome:
                return outcome
            if not waiting:
                return Unavailable("The queue lost this request; send it again.", retry_after=1)
        raise deadline.exceeded()

    async def _look(self, id: str) -> tuple[bool, Outcome | None]:
        """Whether there is anything to wait for, and the outcome. Asked in this order: an outcome ends it."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.exists(keys.upload(id))
            pipe.hgetall(keys.outcome(id))
            waiting, stored = await pipe.execute()
        return bool(waiting), outcome_from(stored) if stored else None

    async def _forget(self, id: str) -> None:
        """Time would delete it too; but while nobody waits, nobody should compute."""
        await asyncio.sleep(AFTERWARDS)
        until = asyncio.get_running_loop().time() + PATIENCE
        with suppress(TimeoutError):
            await persist(lambda: self._client.unlink(keys.upload(id), keys.outcome(id)), until)

    async def stop(self, grace: float) -> None:
        loop = asyncio.get_running_loop()
        finish = loop.time() + grace
        await self.in_flight.drain(grace)
        if self._leavings:
            await asyncio.wait(self._leavings, timeout=max(1.0, finish - loop.time()))
        await end([*filter(None, [self._watching]), *self._leavings])
        await self.subscriber.stop()
        await self._client.aclose()
