"""A dispatcher without networks, so that HTTP and caching can be tested by themselves."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI

from service.app import create_app, local_room
from service.errors import NotFound
from service.local.pipeline import Pipeline
from service.settings import Settings
from service.work import Deadline, InpaintParameters, Parameters, Result, Run, Task, Work


class EchoDispatcher:
    """Answers with the upload itself; counts what reached it; can be held, to have requests in flight."""

    device = "none"

    def __init__(self, *_: object) -> None:
        self.runs: list[Run] = []
        self.cancelled = 0
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Exception | None = None
        self.is_ready = True

    @property
    def images(self) -> list[bytes]:
        return [run.work.files["image"] for run in self.runs]

    async def start(self) -> None: ...

    async def stop(self, grace: float) -> None: ...

    def ready(self) -> tuple[bool, str]:
        return self.is_ready, "" if self.is_ready else "the engine stopped"

    def models(self) -> list[dict[str, Any]]:
        return [{"name": "echo", "task": "inpaint"}]

    def resolve(self, task: Task, name: str | None, lossy: bool = False) -> tuple[str, str]:
        if name not in (None, "echo"):
            raise NotFound("No such model; installed are: echo.")
        return "echo", "digest"

    async def load(self, name: str) -> None: ...

    async def unload(self, name: str) -> None: ...

    async def reload(self) -> None: ...

    async def submit(self, run: Run) -> Result:
        self.runs.append(run)
        if self.failure:
            raise self.failure
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        hole = 0.25 if run.work.task == "inpaint" else None
        return Result(run.work.files["image"], "image/png", "echo", 1, 1, hole, 1, {"decode": 0.001})


def app_of(dispatcher: Any, **settings: Any) -> FastAPI:
    """The application with this dispatcher for its own."""
    return create_app(Settings(**settings), lambda *given: local_room(*given, dispatcher=dispatcher))


def run_of(
    task: Task,
    model: str,
    image: bytes,
    parameters: Parameters | None = None,
    seconds: float = 60,
    **files: bytes | None,
) -> Run:
    """One run of a work, due in so many seconds; files that are None are left out."""
    given = {"image": image} | {name: content for name, content in files.items() if content is not None}
    work = Work.create(task, model, "digest", parameters or InpaintParameters(), given)
    return Run(work, Deadline.after(seconds, "RETOUCH_TIMEOUT"))


def answered(pipeline: Pipeline, run: Run) -> Result:
    return asyncio.run(pipeline.answer(run))
