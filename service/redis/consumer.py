"""The worker's side: take as much as can be run, keep the lease, give a dispatcher what was taken."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from service.averages import Average
from service.contracts import Outcome, Submit
from service.errors import ComputeFailed, DeadlineExceeded, Poisoned, Problem, Unavailable
from service.observability import tracing
from service.observability.logs import request_id
from service.observability.metrics import Metrics
from service.redis.connections import FAILURES, Backoff, persist
from service.redis.fleet import Announcement
from service.redis.progress import reporting
from service.redis.streams import Entry, WorkerStreams
from service.redis.wire import deadline_from, trace_from, work_from
from service.shutdown import end
from service.work import Progress, Run, Work

log = logging.getLogger("retouch.worker")

MAX_DELIVERIES = 3
BATCH_SHARE = 8  # every so many works one of the lower priority comes first, so that it never starves

LATE = DeadlineExceeded("The deadline passed before the answer was ready.")


class Consumer:
    def __init__(
        self,
        streams: WorkerStreams,
        submit: Submit,
        alive: Callable[[], bool],
        metrics: Metrics,
        places: int,
        lease: float,
        announcement: Callable[[float | None], Announcement],
        on_death: Callable[[], None],
    ) -> None:
        self._streams = streams
        self._submit = submit
        self._alive = alive  # whether what computes is
        self._metrics = metrics
        self._places = places
        self._lease = lease
        self._announcement = announcement
        self._on_death = on_death
        self._held: dict[Entry, Run | None] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()  # notified when an entry is held no longer, and at the stop
        self._weights: dict[str, str] = {}  # digest, by model
        self._disputed: set[str] = set()
        self._orphans = False
        self._taken = 0
        self._throughput = Throughput()
        self._stopping = False
        self._open = False  # the streams are known to be there and readable
        self._beats = False  # the last heartbeat was a whole one
        self._loops: list[asyncio.Task[None]] = []

    def ready(self) -> tuple[bool, str]:
        if self._stopping:
            return False, "the worker is stopping"
        connected = self._open and self._beats
        return connected, "" if connected else "Redis cannot be reached"

    async def start(self) -> None:
        self._loops = [asyncio.create_task(self._read()), asyncio.create_task(self._beat())]
        for loop in self._loops:
            loop.add_done_callback(self._ended)

    def _ended(self, loop: asyncio.Task[None]) -> None:
        """A worker that no longer reads, or lets its leases run out, must not look alive."""
        if not loop.cancelled() and (error := loop.exception()):
            log.critical("the worker died: %s", error, exc_info=error)
            self._open = False
            self._on_death()

    def host(self, models: Sequence[str]) -> None:
        """Read these models' streams from now on, when they have been made where they are new."""
        self._streams.host(models)
        self._open = False

    async def stop(self, grace: float) -> None:
        """Take nothing more, finish what is held, hand over what could not be finished in time."""
        self._stopping = True
        await self._notify()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                # The last read is waited for: what it brings would be out of reach for a lease.
                if self._loops:
                    await asyncio.wait(self._loops[:1])
                await self._until(lambda: not self._held)
        left = list(self._held)
        await end([*self._loops, *self._working])
        if left:
            log.warning("leaving %d works to other workers", len(left))
        # Together: one after the other, a Redis that does not answer would cost its patience for each.
        await asyncio.gather(*(self._release(entry) for entry in left))
        await attempt(self._streams.leave)
        await self._streams.close()

    async def _read(self) -> None:
        backoff = Backoff()
        while not self._stopping:
            try:
                if not self._open:
                    await self._claim()
                    await self._streams.open()
                    self._open = True
                await (self._adopt() if self._orphans else self._fill())
                backoff.reset()
            except FAILURES as error:
                # Redis is down, or the streams are gone: either way they are made anew.
                self._open = False
                log.warning("works cannot be read: %s; connecting again", error)
                await backoff.pause()

    async def _fill(self) -> None:
        """Read into the free places, and no more: others may be idle."""
        await self._until(lambda: len(self._held) < self._places or self._stopping)
        if self._stopping:
            return
        if self._taken % BATCH_SHARE == BATCH_SHARE - 1:
            entries = await self._streams.take(1, lowest_first=True)
        else:
            entries = await self._streams.take(self._places - len(self._held), lowest_first=False)
        for entry in entries or await self._streams.wait():
            await self._hold(entry)
        await asyncio.sleep(0)  # so that they are loaded before the next are asked for

    async def _adopt(self) -> None:
        """Take over what dead workers left, one entry at a time and alone.

        Any of them may be what killed its worker. Alone, it cannot take others with it; and because nothing
        is claimed before it is run, only entries that were running count as delivered once more.
        """
        while not self._stopping:
            await self._until(lambda: not self._held)
            adopted = await self._streams.adopt()
            if adopted is None:
                self._orphans = False
                return
            entry, deliveries = adopted
            self._metrics.entries.labels("reclaimed").inc()
            if entry.work and deliveries > MAX_DELIVERIES:
                await self._bury(entry)
            else:
                await self._hold(entry)

    async def _bury(self, entry: Entry) -> None:
        reason = f"not finished in {MAX_DELIVERIES} deliveries"
        log.error("work %s is given up: %s", entry.work, reason)
        problem = Poisoned(f"Workers died of this request, {MAX_DELIVERIES} in a row; it is not tried again.")
        self._metrics.entries.labels(await self._streams.settle(entry, problem, reason)).inc()

    async def _hold(self, entry: Entry) -> None:
        if not entry.work:
            log.error("entry %s of %s is not a work and is dropped", entry.id, entry.stream)
            self._metrics.entries.labels("malformed").inc()
            await attempt(lambda: self._streams.discard(entry))
            return
        if not self._held:
            self._throughput.busy()
        self._held[entry] = None
        self._taken += 1
        task = asyncio.create_task(self._work(entry))
        self._working.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a work was left unfinished", exc_info=error)

    async def _work(self, entry: Entry) -> None:
        try:
            outcome = await self._outcome(entry)
            if outcome is None:
                await self._release(entry)
            else:
                # Computed is computed: it is kept until Redis is back, or nobody waits for it any more. What
                # Redis will never take must not hold a place for ever.
                run = self._held[entry]
                left = max(self._lease, run.deadline.left) if run else self._lease
                until = asyncio.get_running_loop().time() + left
                event = await persist(lambda: self._streams.settle(entry, outcome), until)
                self._metrics.entries.labels(event).inc()
                if run:
                    self._throughput.finished()
        finally:
            # Whatever happened: a lease that is renewed for a work that nobody does would never end.
            del self._held[entry]
            await self._notify()

    async def _outcome(self, entry: Entry) -> Outcome | None:
        """What became of the work; None if another worker must say, since this one's engine died."""
        upload, seconds = await persist(lambda: self._streams.load(entry))
        self._metrics.entries.labels("taken").inc()
        if not upload or seconds <= 0:
            return LATE
        try:
            watched = entry.priority == "batch"
            async with reporting(self._streams, entry) if watched else nullcontext(Progress()) as progress:
                work = self._with_own_weights(work_from(upload), watched)
                run = Run(work, deadline_from(upload, seconds), progress)
                run.looked_up = not watched  # by the API, right before
                self._held[entry] = run
                request_id.set(work.request_id)
                with tracing.continued(trace_from(upload), "work", model=work.model, task=work.task):
                    result = await self._submit(run)
            # Whoever looked after the deadline has been told that it failed.
            return run.deadline.exceeded() if run.deadline.left <= 0 else result
        except Problem as problem:
            return problem if self._alive() else None
        except Exception as error:
            log.error("unexpected failure", exc_info=error)
            return ComputeFailed("The request failed unexpectedly; the worker has logged it.")

    def _with_own_weights(self, work: Work, job: bool) -> Work:
        """An answer must not be known as one of other weights; who waits for it has to ask again."""
        own = self._weights.get(work.model, "")
        if work.weights in ("", own):
            return work
        if not job:
            raise Unavailable("The model's weights have just been changed; send it again.", retry_after=1)
        return Work.create(
            work.task, work.model, own, work.parameters, work.files, work.request_id, work.owner
        )

    async def _release(self, entry: Entry) -> None:
        await attempt(lambda: self._streams.release(entry))
        self._metrics.entries.labels("released").inc()

    async def _beat(self) -> None:
        """Three times a lease, so that it survives two beats that fail."""
        while True:
            duties = (self._renew, self._look_out, self._announce, self._streams.sweep)
            self._beats = all([await attempt(duty) for duty in duties])
            await asyncio.sleep(self._lease / 3)

    async def _renew(self) -> None:
        for entry in await self._streams.renew(list(self._held)):
            if run := self._held.get(entry):
                run.cancelled.set()

    async def _look_out(self) -> None:
        # Before the streams are there, none was left in them.
        self._orphans = self._orphans or (self._open and await self._streams.orphaned())

    async def _announce(self) -> None:
        if not self._stopping:
            await self._streams.announce(await self._claim())

    async def _claim(self) -> Announcement:
        """What this worker has to say, without the models of which others have other weights."""
        announcement = self._announcement(self._throughput.seconds)
        self._weights = {row["name"]: row["digest"] for row in announcement.models}
        disputed = await self._streams.claim(self._weights)
        if disputed - self._disputed:
            log.error("others have other weights of %s; it waits until they end", ", ".join(sorted(disputed)))
        self._disputed = disputed
        return announcement.without(disputed)

    async def _until(self, true: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(true)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class Throughput:
    """Seconds a work while there is any: the inverse of what this worker adds to the fleet's rate."""

    def __init__(self) -> None:
        self._average = Average()
        self._since = 0.0

    @property
    def seconds(self) -> float | None:
        return self._average.value

    def busy(self) -> None:
        self._since = time.monotonic()

    def finished(self) -> None:
        now = time.monotonic()
        self._average.add(now - self._since)
        self._since = now


async def attempt(duty: Callable[[], Awaitable[Any]]) -> bool:
    """For what the next beat does again, or what time heals."""
    try:
        await duty()
    except FAILURES as error:
        log.info("not now: %s", error)
        return False
    return True
