"""The dispatcher that computes in this process: the event loop's side of the runner."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, cast

from service.dispatch.admission import Admission, Decoding
from service.errors import DeadlineExceeded, NotFound, Overloaded, Unavailable
from service.jobs.job import Job, Result, Task
from service.jobs.runner import Runner
from service.jobs.steps import begin, resume
from service.observability.metrics import Metrics
from service.settings import Settings

log = logging.getLogger("retouch.dispatch")

Step = Callable[..., Future[Any] | Result]


def end_process() -> None:
    """A process whose engine is dead must not live on; the server finishes its answers and goes."""
    os.kill(os.getpid(), signal.SIGTERM)


class LocalDispatcher:
    def __init__(
        self, settings: Settings, metrics: Metrics, on_death: Callable[[], None] = end_process
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self.runner = Runner(settings, metrics, on_death)
        threads = self.runner.codec_threads
        # Pools of their own, so that finished work never waits behind pictures that are yet to be decoded.
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self._encoders = ThreadPoolExecutor(threads, "encode")
        self._admission = Admission(settings, threads, self.runner.engine.backlog)
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._warming: asyncio.Task[None] | None = None
        self._warm = False
        self._stopping = False

    @property
    def device(self) -> str:
        return self.runner.backend.device

    async def start(self) -> None:
        self.runner.start()
        self._warming = asyncio.create_task(self._warm_up())

    async def _warm_up(self) -> None:
        for name in self.runner.warm_models():
            try:
                await self.load(name)
            except Exception as error:
                # The others still serve; whoever asks for this one is told why it cannot.
                log.error("cannot warm up %s: %s", name, error)
        self._warm = True

    async def warmed(self) -> None:
        """Until the models that are to be there from the start are there, or have failed to load."""
        if self._warming:
            await asyncio.shield(self._warming)

    def ready(self) -> tuple[bool, str]:
        alive, reason = self.runner.engine.ready()
        if self._stopping:
            return False, "the service is stopping"
        if alive and not self._warm:
            return False, "the default models are being loaded"
        return alive, reason

    def resolve(self, task: Task, name: str | None) -> tuple[str, str]:
        return self.runner.resolve(task, name)

    def models(self) -> list[dict[str, Any]]:
        return self.runner.models()

    async def load(self, name: str) -> None:
        self.runner.catalogue.entry(name)
        await asyncio.wrap_future(self.runner.engine.load(name))

    async def unload(self, name: str) -> None:
        if name not in self.runner.engine.resident():
            self.runner.catalogue.entry(name)
            raise NotFound(f"Model {name!r} is not on the device.")
        await asyncio.wrap_future(self.runner.engine.unload(name))

    async def submit(self, job: Job) -> Result:
        if self._stopping:
            raise Unavailable("The service is stopping.", retry_after=5)
        self._open += 1
        self._idle.clear()
        try:
            with self._admission.admit(job) as decoding:
                async with asyncio.timeout(max(0.0, job.deadline - time.monotonic())):
                    return await self._drive(job, decoding)
        except TimeoutError:
            raise DeadlineExceeded(
                f"The request took longer than RETOUCH_TIMEOUT allows ({self._settings.timeout:g} s)."
            ) from None
        except Overloaded:
            self._metrics.rejected.labels("queue").inc()
            raise
        finally:
            job.cancelled.set()  # what may be left of it, after a timeout or a disconnect, is dropped
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def _drive(self, job: Job, decoding: Decoding) -> Result:
        recipe = self.runner.recipe(job)
        running: Future[Future[Any] | Result] = Future()

        async def run(pool: ThreadPoolExecutor, step: Step, *arguments: Any) -> Future[Any] | Result:
            nonlocal running
            running = pool.submit(step, recipe, *arguments)
            return await asyncio.wrap_future(running)

        try:
            memory = cast(Future[Any], await run(self._decoders, begin))
            await settled(memory)
            started = time.monotonic()
            step = await run(self._decoders, resume, memory)
            decoding.over(time.monotonic() - started)
            while isinstance(step, Future):
                await settled(step)
                step = await run(self._encoders, resume, step)
            return step
        finally:
            # A step may still be running in its thread; the recipe is closed right after it.
            running.add_done_callback(lambda _: recipe.close())

    async def stop(self, grace: float) -> None:
        self._stopping = True
        end = time.monotonic() + grace
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            log.warning("stopping with %d jobs unfinished", self._open)
        if self._warming:
            self._warming.cancel()
        await asyncio.to_thread(self.runner.close, max(0.0, end - time.monotonic()))
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._encoders.shutdown(wait=False, cancel_futures=True)


async def settled(future: Future[Any]) -> None:
    """Until the future has a result or an error, which its recipe will look at."""
    with suppress(Exception):
        await asyncio.wrap_future(future)
