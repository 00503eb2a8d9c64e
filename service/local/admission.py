"""Whether one more run can be promised an answer in time, from what was measured: refused early, not late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.averages import Average
from service.engine.engine import overloaded
from service.errors import Overloaded
from service.settings import Settings
from service.work import Work

# Uploads that wait may hold as much memory as the decoded pictures may: four bytes a pixel.
BYTES_A_PIXEL = 4


class Admission:
    """Counts runs up to the moment when the engine, which measures its own queue, has their windows.

    Used on the event loop alone.
    """

    def __init__(self, settings: Settings, threads: int, backlog: Callable[[], float]) -> None:
        self._max_wait = settings.max_wait
        self._max_bytes = settings.pixel_budget * BYTES_A_PIXEL
        self._threads = threads
        self._backlog = backlog
        self._bytes = 0
        self._undecoded = 0
        self._decoding = Average()  # seconds a run

    def wait(self) -> float:
        return self._backlog() + self._undecoded * (self._decoding.value or 0.0) / self._threads

    @contextmanager
    def admit(self, work: Work) -> Iterator[Callable[[float], None]]:
        """A place for the work, or Overloaded; what is yielded is called once its pictures are decoded."""
        wait = self.wait()
        if wait > self._max_wait:
            raise overloaded(wait, self._max_wait)
        if self._bytes and self._bytes + work.bytes > self._max_bytes:
            raise Overloaded(
                "Too many uploads are waiting to be decoded (RETOUCH_PIXEL_BUDGET).",
                retry_after=max(1.0, wait),
                limit=self._max_bytes,
            )
        waiting = True

        def leave() -> None:
            nonlocal waiting
            self._undecoded -= waiting
            waiting = False

        def decoded(seconds: float) -> None:
            self._decoding.add(seconds)
            leave()

        self._bytes += work.bytes
        self._undecoded += 1
        try:
            yield decoded
        finally:
            leave()
            self._bytes -= work.bytes
