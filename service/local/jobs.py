"""Jobs of a single process: in its memory, computed by its own dispatcher, gone when it ends."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from service.contracts import (
    FINAL,
    GONE,
    JOB_OVERHEAD,
    Job,
    NewJob,
    Outcome,
    Submit,
    no_room,
    no_room_for_answer,
    problem_summary,
    same_request,
)
from service.errors import ComputeFailed, NotFound, Overloaded, Problem
from service.settings import Settings
from service.turns import Turns
from service.work import Progress, Result, Run

# Enough to decode one picture while another is computed; more would only delay those who wait for an answer.
AT_ONCE = 4


@dataclass(eq=False)
class Kept:
    """A job with all that the process has of it; its pictures only until there is an outcome."""

    job: Job
    new: NewJob
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # set once, then replaced
    outcome: Outcome | None = None
    task: asyncio.Task[None] | None = None
    bytes: int = 0  # as they are counted

    def announce(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryJobs:
    def __init__(self, settings: Settings, submit: Submit, call_back: Callable[[str, Job], None]) -> None:
        self._settings = settings
        self._submit = submit
        self._call_back = call_back
        self._kept: dict[str, Kept] = {}
        self._ids: dict[str, str] = {}  # by idempotency key
        self._bytes: Counter[str] = Counter()  # that jobs hold, by owner
        self._turns = Turns(AT_ONCE, AT_ONCE)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        tasks = [kept.task for kept in self._kept.values() if kept.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(self, new: NewJob) -> Job:
        if new.idempotency_key in self._ids:
            known = self._kept[self._ids[new.idempotency_key]]
            same_request(known.new.work.key, new.work.key)
            return known.job
        kept = Kept(Job(uuid.uuid4().hex, new.work.task, new.work.model, new.work.owner), new)
        if problem := self._hold(kept, new.work.bytes + JOB_OVERHEAD):
            raise problem
        self._kept[kept.job.id] = kept
        if new.idempotency_key:
            self._ids[new.idempotency_key] = kept.job.id
        kept.task = asyncio.create_task(self._run(kept))
        return await self.get(kept.job.id)

    async def get(self, id: str) -> Job:
        job = self._find(id).job
        if job.state == "queued":
            job.position = self._turns.ahead(job.owner, id)
        return job

    async def outcome(self, id: str) -> Outcome | None:
        return self._find(id).outcome

    async def delete(self, id: str) -> None:
        kept = self._find(id)
        if kept.task:
            kept.task.cancel()
        self._forget(id)
        kept.announce()

    async def watch(self, id: str) -> AsyncGenerator[Job, None]:
        kept = self._find(id)
        while id in self._kept:
            changed = kept.changed
            job = replace(await self.get(id))
            yield job
            if job.state in FINAL:
                return
            await changed.wait()

    def _find(self, id: str) -> Kept:
        if id not in self._kept:
            raise NotFound(GONE)
        return self._kept[id]

    def _hold(self, kept: Kept, bytes: int) -> Problem | None:
        """Count the job with so many bytes from here on, unless there is no room for them."""
        owner, more, settings = kept.job.owner, bytes - kept.bytes, self._settings
        held, all_held = self._bytes[owner], self._bytes.total()
        if more > 0 and owner and held and held + more > settings.key_job_bytes:
            return no_room(settings.key_job_bytes, of_key=True)
        if more > 0 and all_held and all_held + more > settings.job_bytes:
            return no_room(settings.job_bytes)
        kept.bytes = bytes
        self._bytes[owner] += more
        if not self._bytes[owner]:
            del self._bytes[owner]
        return None

    def _forget(self, id: str) -> None:
        kept = self._kept.pop(id, None)
        if kept:
            self._hold(kept, 0)
            self._ids.pop(kept.new.idempotency_key, None)

    async def _run(self, kept: Kept) -> None:
        job, new = kept.job, kept.new
        try:
            async with new.deadline.enforced(), self._turns.place(job.owner, job.id):
                job.state, job.started, job.position = "running", time.time(), None
                kept.announce()
                kept.outcome = await self._answer(kept)
        except Problem as problem:
            kept.outcome = problem
        except Exception:
            kept.outcome = ComputeFailed("The job failed unexpectedly.")
        kept.new = replace(new, work=replace(new.work, files={}))
        answer = len(kept.outcome.content) if isinstance(kept.outcome, Result) else 0
        if self._hold(kept, answer + JOB_OVERHEAD):
            self._hold(kept, JOB_OVERHEAD)
            kept.outcome = no_room_for_answer()
        job.finished = time.time()
        if isinstance(kept.outcome, Result):
            job.state, job.timings = "done", kept.outcome.timings
        else:
            assert kept.outcome is not None
            job.state, job.problem = "failed", problem_summary(kept.outcome)
        asyncio.get_running_loop().call_later(self._settings.job_ttl, self._forget, job.id)
        if new.callback:
            self._call_back(new.callback, job)
        kept.announce()

    async def _answer(self, kept: Kept) -> Result:
        """Whoever waits for an answer goes first: a full queue refuses no job, it lets it try again."""
        while True:
            try:
                return await self._submit(Run(kept.new.work, kept.new.deadline, self._progress(kept)))
            except Overloaded as overloaded:
                await asyncio.sleep(overloaded.retry_after or 1)

    def _progress(self, kept: Kept) -> Progress:
        loop = asyncio.get_running_loop()

        def moved() -> None:
            kept.job.windows_done, kept.job.windows_total = progress.done, progress.total
            kept.announce()

        def changed() -> None:
            with suppress(RuntimeError):  # the loop has ended, and the engine must not end of that
                loop.call_soon_threadsafe(moved)

        progress = Progress(changed)
        return progress
