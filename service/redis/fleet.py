"""Who works, what they host and how fast they are: said by the workers, known to the API processes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from service.errors import NotFound, Overloaded, Unavailable
from service.redis import keys
from service.redis.connections import Backoff, forever
from service.redis.keys import PRIORITIES, Priority
from service.redis.wire import OPTIONS, VERSION
from service.work import Parameters, Task

log = logging.getLogger("retouch.redis")

SILENCE = 15  # seconds without an announcement after which a worker counts as gone
REFRESH = 1.0  # seconds between two looks at the fleet
LOSSY = ":lossy"
# Until a worker has measured itself. Short queues at first do less harm than promises that are not kept.
GUESSED_SECONDS = 1.0


# What workers know that do not say so.
FIRST: dict[str, list[str]] = {
    "inpaint": ["feather", "format", "grow", "keep_metadata", "mask_mode", "model", "quality"],
    "upscale": ["format", "height", "keep_metadata", "model", "quality", "scale", "width"],
}


@dataclass(frozen=True)
class Announcement:
    models: list[dict[str, Any]]  # as GET /models lists them
    defaults: dict[str, str]  # task to model; and `LOSSY` after the task to that of compressed pictures
    seconds: float | None  # a job, while there is work
    version: int = VERSION  # of the wire
    options: dict[str, list[str]] = field(
        default_factory=lambda: {task: sorted(names) for task, names in OPTIONS.items()}
    )  # that it knows, by task

    def without(self, models: set[str]) -> Announcement:
        rows = [row for row in self.models if row["name"] not in models]
        defaults = {task: name for task, name in self.defaults.items() if name not in models}
        return replace(self, models=rows, defaults=defaults)

    def pack(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def unpack(cls, line: bytes) -> tuple[int, Announcement]:
        """When it was made, and what it says."""
        seen, _, text = line.partition(b" ")
        said = json.loads(text)  # perhaps by another version, which may say more
        return int(seen), cls(
            [dict(row, name=row["name"], task=row["task"], digest=row["digest"]) for row in said["models"]],
            dict(said["defaults"]),
            said["seconds"],
            said.get("version", 0),
            said.get("options", FIRST),
        )


class Fleet:
    """An API process' picture of the fleet, a second old at most while Redis answers.

    What is hosted is remembered when its last worker leaves: then a model is not unknown, only not at hand.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._workers: list[Announcement] = []
        self._models: dict[str, dict[str, Any]] = {}
        self._defaults: dict[str, str] = {}
        self._waiting: dict[tuple[str, Priority], int] = {}
        self.seen = False  # whether there ever was a worker

    @property
    def workers(self) -> int:
        return len(self._workers)

    async def watch(self) -> None:
        await forever(self._look, "the workers cannot be seen")

    async def _look(self, backoff: Backoff) -> None:
        while True:
            await self.refresh()
            backoff.reset()
            await asyncio.sleep(REFRESH)

    async def refresh(self) -> None:
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(keys.FLEET)
            (now, _), lines = await pipe.execute()
        announced = []
        for worker, line in lines.items():
            try:
                announced.append(Announcement.unpack(line))
            except (ValueError, KeyError, TypeError) as error:
                log.warning("what worker %r announces cannot be read: %s", worker, error)
        self._workers = [announcement for seen, announcement in announced if now - seen <= SILENCE]
        for worker in self._workers:
            self.seen = True
            self._models |= {model["name"]: model for model in worker.models}
            self._defaults |= worker.defaults
        names = [(model, priority) for model in self._models for priority in PRIORITIES]
        async with self._client.pipeline(transaction=False) as pipe:
            for model, priority in names:
                pipe.xlen(keys.stream(model, priority))
                pipe.xpending(keys.stream(model, priority), keys.GROUP)
            counts = await pipe.execute(raise_on_error=False)
        for name, length, pending in zip(names, counts[::2], counts[1::2], strict=True):
            # A stream to which nobody has sent a job yet has no group.
            self._waiting[name] = length - (pending["pending"] if isinstance(pending, dict) else 0)

    def models(self) -> list[dict[str, Any]]:
        return list(self._models.values())

    def resolve(self, task: Task, name: str | None, lossy: bool = False) -> tuple[str, str]:
        if not self.seen:
            raise Unavailable("No worker has come up yet.", retry_after=5)
        name = name or (lossy and self._defaults.get(task + LOSSY)) or self._defaults.get(task)
        model = self._models.get(name or "")
        if model is None or model["task"] != task:
            fitting = ", ".join(name for name, model in self._models.items() if model["task"] == task)
            raise NotFound(f"No worker hosts a model {name!r} for {task}; hosted are: {fitting or 'none'}.")
        return model["name"], model["digest"]

    def limit(self, model: str, priority: Priority, seconds: float) -> float:
        """How many jobs may wait so that one more would start within so many seconds.

        Overloaded, if it is known without having to send the pictures to Redis that more do.
        """
        if priority == "interactive" and not any(self._hosts(model)):
            raise Unavailable(f"No worker for {model!r} is up.", retry_after=5)
        limit = max(1.0, self._rate(model) * seconds - self._beside(model, priority))
        waiting = self._waiting.get((model, priority), 0)
        if waiting > limit:
            raise self.overloaded(model, priority, waiting, seconds)
        return limit

    def overloaded(self, model: str, priority: Priority, waiting: int, seconds: float) -> Overloaded:
        self._waiting[model, priority] = waiting
        wait = (waiting + self._beside(model, priority)) / self._rate(model)
        return Overloaded(
            f"The queue is {wait:.0f} s long, longer than the {seconds:g} s that are allowed.",
            retry_after=max(1.0, wait - seconds),
            limit=seconds,
        )

    def accepted(self, model: str, priority: Priority, waiting: int) -> None:
        self._waiting[model, priority] = waiting + 1

    def check(self, model: str, task: Task, parameters: Parameters) -> None:
        """Unavailable while a worker may get the work that does not know an option of it."""
        wanted = parameters.model_dump(exclude_defaults=True).keys()
        for worker in self._hosts(model):
            if missing := wanted - set(worker.options.get(task, ())):
                raise Unavailable(f"A worker does not know {', '.join(sorted(missing))} yet.", retry_after=5)

    def _rate(self, model: str) -> float:
        """Jobs a second. While no worker is up, one is expected back."""
        rates = [1 / (worker.seconds or GUESSED_SECONDS) for worker in self._hosts(model)]
        return sum(rates) or 1 / GUESSED_SECONDS

    def _hosts(self, model: str) -> Iterator[Announcement]:
        return (worker for worker in self._workers if any(row["name"] == model for row in worker.models))

    def _beside(self, model: str, priority: Priority) -> int:
        """Jobs for the same workers that go first or take turns with these."""
        shared = {row["name"] for worker in self._hosts(model) for row in worker.models}
        first = PRIORITIES[: PRIORITIES.index(priority) + 1]
        names = [(name, rank) for name in shared for rank in first if (name, rank) != (model, priority)]
        return sum(self._waiting.get(name, 0) for name in names)
