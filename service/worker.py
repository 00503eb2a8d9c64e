"""`retouch worker`: the engine of the single process, fed from Redis, with a small HTTP face for probes."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from service.api import health, problems
from service.api.middleware import is_probe
from service.cache import make_cache
from service.cache.answers import Caching
from service.local.dispatcher import LocalDispatcher, end_process
from service.observability.metrics import Metrics
from service.observability.tracing import telemetry
from service.redis.consumer import Consumer
from service.redis.fleet import LOSSY, Announcement
from service.redis.streams import WorkerStreams
from service.settings import Settings
from service.shutdown import Shutdown


class Worker:
    """A local dispatcher that gets its works from the streams of the models it hosts."""

    def __init__(self, settings: Settings, metrics: Metrics, hosted: Sequence[str]) -> None:
        assert settings.redis_url
        # What reaches a worker has been admitted already, by the queue and the rate of the whole fleet.
        changes = {"max_wait": float("inf"), "warm": settings.warm or ",".join(hosted)}
        self._local = LocalDispatcher(settings.model_copy(update=changes), metrics)
        self._catalogue = self._local.catalogue
        self._chosen = [self._catalogue.entry(name).name for name in hosted]
        self.hosted = self._chosen or list(self._catalogue.entries)
        # As many as run together, and as many that are decoded meanwhile; a CPU gains nothing by batches.
        batch = 1 if self._local.device == "cpu" else settings.max_batch * len(self._local.pipeline.runtimes)
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._cache = make_cache(settings)
        self._consumer = Consumer(
            WorkerStreams(settings.redis_url, name, self.hosted, settings.lease),
            Caching(self._local.submit, self._cache).submit,
            lambda: self._local.ready()[0],
            metrics,
            settings.worker_places or 2 * batch,
            settings.lease,
            self._announcement,
            end_process,
        )
        self._consuming: asyncio.Task[None] | None = None

    @property
    def device(self) -> str:
        return self._local.device

    def _announcement(self, seconds: float | None) -> Announcement:
        tasks = {name: self._catalogue.entry(name).task for name in self.hosted}
        defaults: dict[str, str] = {}
        for task in set(tasks.values()):
            hosted = [name for name in self.hosted if tasks[name] == task]
            for key, lossy in ((task, False), (task + LOSSY, True)):
                default = self._catalogue.default(task, lossy)
                defaults[key] = default if default in hosted else hosted[0]
        models = [model for model in self._local.models() if model["name"] in tasks]
        return Announcement(models, defaults, seconds)

    async def start(self) -> None:
        await self._local.start()
        self._consuming = asyncio.create_task(self._consume())

    async def _consume(self) -> None:
        await self._local.warmed()
        await self._consumer.start()

    def ready(self) -> tuple[bool, str]:
        alive, reason = self._local.ready()
        return self._consumer.ready() if alive else (alive, reason)

    async def reload(self) -> None:
        await self._local.reload()
        entries = self._catalogue.entries
        self.hosted = [name for name in self._chosen or entries if name in entries]
        self._consumer.host(self.hosted)

    async def stop(self, grace: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        if self._consuming:
            self._consuming.cancel()
        await self._consumer.stop(grace)
        await self._local.stop(max(0.0, end - loop.time()))
        await self._cache.close()


@dataclass
class Probed:
    """What the health routes look at."""

    dispatcher: Worker
    metrics: Metrics
    shutdown: Shutdown


def create_worker(settings: Settings, hosted: Sequence[str]) -> FastAPI:
    metrics = Metrics()
    worker = Worker(settings, metrics, hosted)
    shutdown = Shutdown()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await worker.start()
        try:
            yield
        finally:
            await worker.stop(shutdown.left(settings.drain))

    app = FastAPI(
        title="Retouch worker",
        lifespan=lifespan,
        openapi_url=None,
        telemetry=telemetry("retouch-worker", is_probe),
    )
    app.state.services = Probed(worker, metrics, shutdown)
    problems.install(app)
    app.include_router(health.router)
    return app
