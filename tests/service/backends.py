"""A backend without networks, so that HTTP and caching can be tested by themselves."""

from __future__ import annotations

import asyncio
from typing import Any

from service.errors import NotFound
from service.jobs.job import Job, Result, Task


class EchoBackend:
    """Answers with the upload itself; counts what reached it; can be held, to have requests in flight."""

    def __init__(self, *_: object) -> None:
        self.jobs: list[Job] = []
        self.cancelled = 0
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Exception | None = None
        self.is_ready = True

    async def start(self) -> None: ...

    async def stop(self, grace: float) -> None: ...

    def ready(self) -> tuple[bool, str]:
        return self.is_ready, "" if self.is_ready else "the engine stopped"

    def models(self) -> list[dict[str, Any]]:
        return [{"name": "echo", "task": "inpaint"}]

    def resolve(self, task: Task, name: str | None) -> tuple[str, str]:
        if name not in (None, "echo"):
            raise NotFound("No such model; installed are: echo.")
        return "echo", "digest"

    async def load(self, name: str) -> None: ...

    async def unload(self, name: str) -> None: ...

    async def submit(self, job: Job) -> Result:
        self.jobs.append(job)
        if self.failure:
            raise self.failure
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        hole = 0.25 if job.task == "inpaint" else None
        return Result(job.image, "image/png", "echo", 1, 1, hole, 1, {"decode": 0.001})
