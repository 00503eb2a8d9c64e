"""Orders of a single process: in its memory, computed by its own dispatcher, gone when it ends."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from service.cache.store import Cache
from service.cache.through import through
from service.dispatch.protocol import Dispatcher
from service.errors import ComputeFailed, DeadlineExceeded, NotFound, Overloaded, Problem
from service.jobs.job import Job, Progress, Result
from service.orders.order import FINAL, Order, Request, problem_summary, same_request
from service.settings import Settings

# Enough to decode one picture while another is computed; more would only delay those who wait for an answer.
AT_ONCE = 4


@dataclass(eq=False)
class Kept:
    order: Order
    request: Request
    job: Job | None  # its pictures, until there is an outcome
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # set once, then replaced
    outcome: Result | Problem | None = None
    task: asyncio.Task[None] | None = None

    def announce(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def bytes(self) -> int:
        uploads = (self.job.image, self.job.mask, self.job.sketch) if self.job else ()
        answer = len(self.outcome.content) if isinstance(self.outcome, Result) else 0
        return answer + sum(len(upload) for upload in uploads if upload)


class MemoryOrders:
    def __init__(
        self,
        settings: Settings,
        dispatcher: Dispatcher,
        cache: Cache,
        call_back: Callable[[str, Order], None],
    ) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._cache = cache
        self._call_back = call_back
        self._kept: dict[str, Kept] = {}
        self._keys: dict[str, str] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        tasks = [kept.task for kept in self._kept.values() if kept.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(self, request: Request) -> Order:
        if request.key in self._keys:
            known = self._kept[self._keys[request.key]]
            same_request(known.request.fingerprint, request.fingerprint)
            return known.order
        held = sum(kept.bytes for kept in self._kept.values())
        if held > self._settings.job_bytes:
            raise Overloaded(
                "Too many jobs are kept (RETOUCH_JOB_BYTES); delete what you have fetched.",
                retry_after=30,
                limit=self._settings.job_bytes,
            )
        job = request.job
        order = Order(uuid.uuid4().hex, job.task, job.model)
        kept = Kept(order, replace(request, job=replace(job, image=b"", mask=None, sketch=None)), job)
        self._kept[order.id] = kept
        if request.key:
            self._keys[request.key] = order.id
        kept.task = asyncio.create_task(self._run(kept, job))
        return await self.get(order.id)

    async def get(self, name: str) -> Order:
        order = self._find(name).order
        if order.state == "queued":
            queue = [kept.order.id for kept in self._kept.values() if kept.order.state == "queued"]
            order.position = queue.index(name)
        return order

    async def outcome(self, name: str) -> Result | Problem | None:
        return self._find(name).outcome

    async def delete(self, name: str) -> None:
        kept = self._find(name)
        if kept.task:
            kept.task.cancel()
        self._forget(name)
        kept.announce()

    async def watch(self, name: str) -> AsyncGenerator[Order, None]:
        kept = self._find(name)
        while name in self._kept:
            changed = kept.changed
            order = replace(await self.get(name))
            yield order
            if order.state in FINAL:
                return
            await changed.wait()

    def _find(self, name: str) -> Kept:
        if name not in self._kept:
            raise NotFound("There is no such job, or it is over for too long.")
        return self._kept[name]

    def _forget(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept and kept.request.key:
            self._keys.pop(kept.request.key, None)

    async def _run(self, kept: Kept, job: Job) -> None:
        loop, order = asyncio.get_running_loop(), kept.order
        outcome: Result | Problem
        try:
            async with asyncio.timeout(job.deadline - time.monotonic()), self._places:
                order.state, order.started, order.position = "running", time.time(), None
                kept.announce()
                key = job.cache_key
                outcome = await through(self._cache, key, lambda: self._submit(kept, job))
        except (TimeoutError, DeadlineExceeded):
            allowed = f"{self._settings.job_timeout:g} s"
            outcome = DeadlineExceeded(f"The job took longer than RETOUCH_JOB_TIMEOUT allows ({allowed}).")
        except Problem as problem:
            outcome = problem
        except Exception:
            outcome = ComputeFailed("The job failed unexpectedly.")
        kept.outcome, kept.job = outcome, None
        order.finished = time.time()
        if isinstance(outcome, Result):
            order.state, order.timings = "done", outcome.timings
        else:
            order.state, order.problem = "failed", problem_summary(outcome)
        loop.call_later(self._settings.job_ttl, self._forget, order.id)
        if kept.request.callback:
            self._call_back(kept.request.callback, order)
        kept.announce()

    async def _submit(self, kept: Kept, job: Job) -> Result:
        """Whoever waits for an answer goes first: a full queue refuses no order, it lets it try again."""
        while True:
            fresh = replace(job, cancelled=threading.Event(), progress=self._progress(kept))
            try:
                return await self._dispatcher.submit(fresh)
            except Overloaded as overloaded:
                await asyncio.sleep(overloaded.retry_after or 1)

    def _progress(self, kept: Kept) -> Progress:
        loop = asyncio.get_running_loop()

        def moved() -> None:
            kept.order.windows_done, kept.order.windows_total = progress.done, progress.total
            kept.announce()

        def changed() -> None:
            with suppress(RuntimeError):  # the loop has ended, and the engine must not end of that
                loop.call_soon_threadsafe(moved)

        progress = Progress(changed)
        return progress
