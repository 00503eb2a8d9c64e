"""What is known of an order, and what every book of orders promises."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from service.errors import Problem, Unprocessable
from service.jobs.job import Job, Result, Task

State = Literal["queued", "running", "done", "failed"]
FINAL = ("done", "failed")


@dataclass
class Order:
    id: str
    task: Task
    model: str
    state: State = "queued"
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    position: int | None = None  # orders ahead of it, while it is queued
    windows_done: int = 0
    windows_total: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    problem: dict[str, Any] | None = None


@dataclass(frozen=True)
class Request:
    """An order as it comes in."""

    job: Job
    key: str = ""  # the caller's Idempotency-Key, made unique to the caller
    callback: str = ""

    @property
    def fingerprint(self) -> str:
        """Of all that the answer depends on."""
        return self.job.cache_key


class Orders(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def create(self, request: Request) -> Order:
        """A new order, or the one that this key has made before; Overloaded when there is no room."""

    async def get(self, name: str) -> Order:
        """NotFound if it never was, was deleted, or is over for too long."""

    async def outcome(self, name: str) -> Result | Problem | None:
        """The answer; None while there is none."""

    async def delete(self, name: str) -> None:
        """Forget it; whatever is not computed yet never is."""

    def watch(self, name: str) -> AsyncGenerator[Order, None]:
        """The order now and after every change, until it is final or deleted."""


def problem_summary(problem: Problem) -> dict[str, Any]:
    return {"status": problem.status, "title": problem.title, "detail": problem.detail}


def scoped_key(caller: str, key: str) -> str:
    """Two callers may use the same key without meeting each other."""
    return hashlib.sha256(f"{len(caller)}:{caller}{key}".encode()).hexdigest() if key else ""


def same_request(known: str, fingerprint: str) -> None:
    if known != fingerprint:
        raise Unprocessable("This Idempotency-Key was used for another request.")
