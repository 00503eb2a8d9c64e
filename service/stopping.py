"""That the process has been asked to end, and when."""

from __future__ import annotations

import asyncio
import time


class Stopping:
    """Known before the server tells the application, which is only when its last connection is closed: an
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
