"""Whether one more job can be promised an answer in time, from what was measured: refused early, not late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.engine.engine import overloaded
from service.errors import Overloaded
from service.jobs.job import Job
from service.settings import Settings

FRESHNESS = 0.2  # share of a new measurement in the average
# Uploads that wait may hold as much memory as the decoded pictures may: four bytes a pixel.
BYTES_A_PIXEL = 4


class Admission:
    """Counts jobs up to the moment when the engine, which measures its own queue, has their windows.

    Used on the event loop alone.
    """

    def __init__(self, settings: Settings, threads: int, backlog: Callable[[], float]) -> None:
        self._max_wait = settings.max_wait
        self._max_bytes = settings.pixel_budget * BYTES_A_PIXEL
        self._threads = threads
        self._backlog = backlog
        self._bytes = 0
        self._undecoded = 0
        self._decode = 0.0  # average seconds a job takes to decode

    def wait(self) -> float:
        return self._backlog() + self._undecoded * self._decode / self._threads

    @contextmanager
    def admit(self, job: Job) -> Iterator[Decoding]:
        """Holds a place for the job; Overloaded when there is none."""
        wait = self.wait()
        if wait > self._max_wait:
            raise overloaded(wait, self._max_wait)
        size = sum(len(upload) for upload in (job.image, job.mask, job.sketch) if upload)
        if self._bytes and self._bytes + size > self._max_bytes:
            raise Overloaded(
                "Too many uploads are waiting to be decoded (RETOUCH_PIXEL_BUDGET).",
                retry_after=max(1.0, wait),
                limit=self._max_bytes,
            )
        decoding = Decoding(self)
        self._bytes += size
        self._undecoded += 1
        try:
            yield decoding
        finally:
            decoding.over()
            self._bytes -= size

    def decoded(self, seconds: float | None) -> None:
        self._undecoded -= 1
        if seconds is not None:
            self._decode += (seconds - self._decode) * FRESHNESS


class Decoding:
    """A job's place among those that are not decoded yet, given up once."""

    def __init__(self, admission: Admission) -> None:
        self._admission: Admission | None = admission

    def over(self, seconds: float | None = None) -> None:
        if self._admission is not None:
            self._admission.decoded(seconds)
            self._admission = None
