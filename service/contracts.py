"""What the rooms promise each other, named once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from service.errors import Overloaded, Problem, TooManyRequests, Unprocessable
from service.work import Deadline, Result, Run, Task, Work

Outcome = Result | Problem


class Dispatcher(Protocol):
    """Takes runs and answers each exactly once: here, or on workers elsewhere."""

    @property
    def device(self) -> str: ...

    async def start(self) -> None: ...

    async def submit(self, run: Run) -> Result:
        """Admit (or refuse with Overloaded) and answer; raises a Problem when it cannot."""

    def ready(self) -> tuple[bool, str]:
        """Whether works can be answered now, and if not, why."""

    async def stop(self, grace: float) -> None:
        """Refuse new runs, finish the accepted ones within `grace` seconds."""

    def models(self) -> list[dict[str, Any]]: ...

    def resolve(self, task: Task, name: str | None, lossy: bool = False) -> tuple[str, str]:
        """Name of the model that answers, and what its answers depend on; NotFound when there is none.

        `lossy` says that the picture came compressed with loss, for which there may be another default.
        """

    async def load(self, name: str) -> None: ...

    async def unload(self, name: str) -> None: ...

    async def reload(self) -> None:
        """Take what is installed now, and its defaults; runs are answered by the models they were given."""


class Submit(Protocol):
    async def __call__(self, run: Run) -> Result: ...


State = Literal["queued", "running", "done", "failed"]
FINAL = ("done", "failed")
GONE = "There is no such job, or it is over for too long."
JOB_OVERHEAD = 4096  # bytes that a job holds besides its pictures, so that their number is bounded too


@dataclass
class Job:
    """A work whose answer is fetched later, as its caller sees it."""

    id: str
    task: Task
    model: str
    owner: str = ""
    state: State = "queued"
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    position: int | None = None  # jobs ahead of it, while it is queued
    windows_done: int = 0
    windows_total: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    problem: dict[str, Any] | None = None

    @property
    def public(self) -> dict[str, Any]:
        """What its caller, and whoever is called back, is told."""
        return {name: value for name, value in asdict(self).items() if name != "owner"}


@dataclass(frozen=True)
class NewJob:
    work: Work
    deadline: Deadline
    idempotency_key: str = ""  # made unique to the caller
    callback: str = ""


class Jobs(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def create(self, new: NewJob) -> Job:
        """A new job, or the one that this key has made before; Overloaded when there is no room."""

    async def get(self, id: str) -> Job:
        """NotFound if it never was, was deleted, or is over for too long."""

    async def outcome(self, id: str) -> Outcome | None:
        """The answer; None while there is none."""

    async def delete(self, id: str) -> None:
        """Forget it; whatever is not computed yet never is."""

    def watch(self, id: str) -> AsyncGenerator[Job, None]:
        """The job now and after every change, until it is final or deleted."""


def problem_summary(problem: Problem) -> dict[str, Any]:
    return {"status": problem.status, "title": problem.title, "detail": problem.detail}


def no_room(limit: int, of_key: bool = False) -> Problem:
    """Jobs hold so many bytes already, all of them or those of the caller's key."""
    if of_key:
        detail = "This key's jobs hold too much (RETOUCH_KEY_JOB_BYTES); delete what you have fetched."
        return TooManyRequests(detail, retry_after=30, limit=limit)
    detail = "Too many jobs are kept (RETOUCH_JOB_BYTES); delete what you have fetched."
    return Overloaded(detail, retry_after=30, limit=limit)


def no_room_for_answer() -> Problem:
    detail = "There was no room to keep the answer (RETOUCH_JOB_BYTES, or Redis' maxmemory)."
    return Overloaded(detail, retry_after=30)


def scoped_key(caller: str, key: str) -> str:
    """Two callers may use the same idempotency key without meeting each other."""
    return hashlib.sha256(f"{len(caller)}:{caller}{key}".encode()).hexdigest() if key else ""


def same_request(known: str, key: str) -> None:
    """Both are works' keys."""
    if known != key:
        raise Unprocessable("This Idempotency-Key was used for another request.")
