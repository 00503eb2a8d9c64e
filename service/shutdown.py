"""Ending in order: what the process was asked, what is still in flight, what runs in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from service.errors import Unavailable

log = logging.getLogger("retouch.shutdown")


class Shutdown:
    """That the process has been asked to end, and when.

    Known before the server tells the application, which is only when its last connection is closed: an
    answer that would go on for as long as a job does has to end by itself.
    """

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._since = 0.0

    def begin(self) -> None:
        if not self._begun.is_set():
            self._since = time.monotonic()
            self._begun.set()

    async def wait(self) -> None:
        await self._begun.wait()

    def left(self, grace: float) -> float:
        """What the open connections have left of the time to finish."""
        return max(0.0, grace - (time.monotonic() - self._since)) if self._begun.is_set() else grace


class InFlight:
    """The runs that a dispatcher has accepted and not answered yet."""

    def __init__(self) -> None:
        self.count = 0
        self.stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        if self.stopping:
            raise Unavailable("The service is stopping.", retry_after=5)
        self.count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._idle.set()

    async def drain(self, grace: float) -> None:
        """Take nothing more, and wait up to `grace` seconds for what was taken."""
        self.stopping = True
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            log.warning("stopping with %d requests unanswered", self.count)


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel, as often as it takes: a client that is just sending may lose a cancellation."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
