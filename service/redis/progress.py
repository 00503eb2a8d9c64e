"""How far a job is, from the engine's thread to whoever looks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from service.redis.connections import FAILURES
from service.redis.streams import Entry, WorkerStreams
from service.shutdown import end
from service.work import Progress

log = logging.getLogger("retouch.worker")

INTERVAL = 0.1  # seconds between two reports; what lies between is summed up by the later one


@asynccontextmanager
async def reporting(streams: WorkerStreams, entry: Entry) -> AsyncIterator[Progress]:
    """A progress whose changes are reported while the job is being worked on."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def moved() -> None:
        with suppress(RuntimeError):  # the loop has ended, and the engine must not end of that
            loop.call_soon_threadsafe(changed.set)

    async def report() -> None:
        while True:
            try:
                await streams.report(entry, progress.done, progress.total)
            except FAILURES as error:
                log.info("not now: %s", error)
            await asyncio.sleep(INTERVAL)
            await changed.wait()
            changed.clear()

    progress = Progress(moved)
    reporter = asyncio.create_task(report())
    try:
        yield progress
    finally:
        await end([reporter])
        with suppress(*FAILURES):
            await streams.report(entry, progress.done, progress.total)
