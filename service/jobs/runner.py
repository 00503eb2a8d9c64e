"""The one way from a job to its result, for the server and the command line alike."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

from service.engine.backends import make_backend
from service.engine.catalogue import Catalogue
from service.engine.cores import usable_cores
from service.engine.engine import Engine
from service.jobs.budget import Budget
from service.jobs.job import Job, Result, Task
from service.jobs.recipes import Kitchen, inpaint, upscale
from service.jobs.steps import Recipe, begin, resume
from service.observability.metrics import Metrics
from service.settings import Settings

log = logging.getLogger("retouch.jobs")


def nothing() -> None:
    """On the command line a dead engine fails the one job, and that is seen at once."""


class Runner:
    def __init__(self, settings: Settings, metrics: Metrics, on_death: Callable[[], None] = nothing) -> None:
        self._settings = settings
        self.codec_threads = settings.codec_threads or usable_cores()
        self.backend = make_backend(settings)
        self.catalogue = Catalogue(settings, self.backend.device)
        self.engine = Engine(settings, metrics, self.backend, self.catalogue, on_death)
        self._kitchen = Kitchen(settings, metrics, self.engine, self.catalogue, Budget(settings.pixel_budget))
        self._started = False

    def start(self) -> None:
        if not self._started:
            self._started = True
            self.engine.start()

    def close(self, grace: float = 0.0) -> None:
        self.engine.stop(grace)

    def resolve(self, task: Task, name: str | None) -> tuple[str, str]:
        """Name and weights digest of the model that answers."""
        entry = self.catalogue.resolve(task, name)
        return entry.name, entry.digest

    def warm_models(self) -> list[str]:
        """What is to be on the device before the first request."""
        if self._settings.warm:
            return [name.strip() for name in self._settings.warm.split(",")]
        tasks: tuple[Task, ...] = ("inpaint", "upscale")
        installed = {entry.task for entry in self.catalogue.entries.values()}
        return [self.catalogue.default(task) for task in tasks if task in installed]

    def models(self) -> list[dict[str, Any]]:
        resident = self.engine.resident()
        return [
            {
                **self.catalogue.describe(name),
                "device": self.backend.device,
                "resident": name in resident,
                "device_bytes": resident.get(name, 0),
            }
            for name in self.catalogue.entries
        ]

    def recipe(self, job: Job) -> Recipe:
        return (inpaint if job.task == "inpaint" else upscale)(self._kitchen, job)

    def run(self, job: Job) -> Result:
        """Answer the job in this thread; raises a Problem when it cannot."""
        self.start()
        recipe = self.recipe(job)
        try:
            step = begin(recipe)
            while True:
                wait([step])
                answer = resume(recipe, step)
                if isinstance(answer, Result):
                    return answer
                step = answer
        finally:
            recipe.close()
