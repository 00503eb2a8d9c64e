"""What every dispatcher promises: an accepted job gets exactly one answer, a Result or a Problem."""

from __future__ import annotations

from typing import Protocol

from service.jobs.job import Job, Result


class Dispatcher(Protocol):
    async def start(self) -> None: ...

    async def submit(self, job: Job) -> Result:
        """Admit (or refuse with Overloaded) and answer the job; raises a Problem when it cannot."""

    def ready(self) -> tuple[bool, str]:
        """Whether jobs can be answered now, and if not, why."""

    async def stop(self, grace: float) -> None:
        """Refuse new jobs, finish the accepted ones within `grace` seconds."""
