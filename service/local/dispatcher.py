"""The dispatcher that computes in this process."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

from models.manifest import ModelEntry
from service.errors import NotFound, Overloaded
from service.local.admission import Admission
from service.local.pipeline import Pipeline
from service.observability.metrics import Metrics
from service.settings import Settings
from service.shutdown import InFlight
from service.work import TASKS, Result, Run, Task

log = logging.getLogger("retouch.local")


def end_process() -> None:
    """A process whose engine is dead must not live on; the server finishes its answers and goes."""
    os.kill(os.getpid(), signal.SIGTERM)


class LocalDispatcher:
    def __init__(
        self, settings: Settings, metrics: Metrics, on_death: Callable[[], None] = end_process
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self.pipeline = Pipeline(settings, metrics, on_death)
        self.catalogue = self.pipeline.catalogue
        self._admission = Admission(settings, self.pipeline.threads, self.pipeline.engine.backlog)
        self.in_flight = InFlight()
        self._warming: asyncio.Task[None] | None = None
        self._warm = False
        self._cold = ""  # why nothing that was wanted could be loaded

    @property
    def device(self) -> str:
        return self.pipeline.device

    async def start(self) -> None:
        self._warming = asyncio.create_task(self._warm_up())

    def _wanted(self) -> list[str]:
        """What is to be on the device before the first request."""
        if self._settings.warm:
            return [name.strip() for name in self._settings.warm.split(",")]
        installed = {entry.task for entry in self.catalogue.entries.values()}
        return [self.catalogue.default(task) for task in TASKS if task in installed]

    async def _warm_up(self) -> None:
        failures = []
        wanted = self._wanted()
        for name in wanted:
            if name in self.pipeline.engine.resident():
                continue
            try:
                await self.load(name)
            except Exception as error:
                # The others still serve; whoever asks for this one is told why it cannot.
                log.error("cannot warm up %s: %s", name, error)
                failures.append(f"{name}: {error}")
        self._cold = "; ".join(failures) if len(failures) == len(wanted) else ""
        self._warm = True

    async def warmed(self) -> None:
        """Until the models that are to be there from the start are there, or have failed to load."""
        if self._warming:
            await asyncio.shield(self._warming)

    def ready(self) -> tuple[bool, str]:
        alive, reason = self.pipeline.engine.ready()
        if self.in_flight.stopping:
            return False, "the service is stopping"
        if alive and not self.catalogue.entries:
            return False, "no models are installed; RETOUCH_WEIGHTS_DIR names a folder with some"
        if alive and not self._warm:
            return False, "the default models are being loaded"
        if alive and self._cold and not self.pipeline.engine.resident():
            return False, f"no model could be loaded: {self._cold}"
        return alive, reason

    def resolve(self, task: Task, name: str | None, lossy: bool = False) -> tuple[str, str]:
        entry = self.catalogue.resolve(task, name, lossy)
        return entry.name, self._identity(entry)

    def _identity(self, entry: ModelEntry) -> str:
        """What its answers depend on: the weights, and how this device computes."""
        return "+".join(filter(None, [entry.digest, self.pipeline.runtimes[0].arithmetic(entry)]))

    def models(self) -> list[dict[str, Any]]:
        resident = self.pipeline.engine.resident()
        return [
            {
                **self.catalogue.describe(name),
                "digest": self._identity(entry),
                "device": self.device,
                "resident": name in resident,
                "device_bytes": resident.get(name, 0),
            }
            for name, entry in self.catalogue.entries.items()
        ]

    async def load(self, name: str) -> None:
        self.catalogue.entry(name)
        await asyncio.wrap_future(self.pipeline.engine.load(name))

    async def unload(self, name: str) -> None:
        if name not in self.pipeline.engine.resident():
            self.catalogue.entry(name)
            raise NotFound(f"Model {name!r} is not on the device.")
        await asyncio.wrap_future(self.pipeline.engine.unload(name))

    async def reload(self) -> None:
        await asyncio.to_thread(self.catalogue.read)
        self._warming = asyncio.create_task(self._warm_up())

    async def submit(self, run: Run) -> Result:
        with self.in_flight.one():
            try:
                with self._admission.admit(run.work) as decoded:
                    async with run.deadline.enforced():
                        return await self.pipeline.answer(run, decoded)
            except Overloaded:
                self._metrics.rejected.labels("queue").inc()
                raise
            finally:
                run.cancelled.set()  # what may be left of it, after a timeout or a disconnect, is dropped

    async def stop(self, grace: float) -> None:
        loop = asyncio.get_running_loop()
        finish = loop.time() + grace
        await self.in_flight.drain(grace)
        if self._warming:
            self._warming.cancel()
        await asyncio.to_thread(self.pipeline.close, max(0.0, finish - loop.time()))
