"""The engine: one thread that owns the device, and a queue in front of it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import torch

from service.engine.catalogue import Catalogue
from service.engine.isolation import run_isolated
from service.engine.pace import Pace
from service.engine.queue import Computed, Slot, Ticket, WindowQueue
from service.engine.residency import Residency, warm_window
from service.engine.runtimes import Runtime
from service.engine.windows import Pixels, Window
from service.errors import Overloaded, Problem, Unavailable
from service.observability.metrics import Metrics
from service.settings import Settings
from service.work import Run

log = logging.getLogger("retouch.engine")


class Engine:
    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        runtime: Runtime,
        catalogue: Catalogue,
        on_death: Callable[[], None],
    ) -> None:
        self._metrics = metrics
        self._runtime = runtime
        self._catalogue = catalogue
        self._max_wait = settings.max_wait
        self._on_death = on_death
        self._residency = Residency(runtime, catalogue, metrics, settings.resident_bytes, settings.max_batch)
        self._pace = Pace()
        self._wake = threading.Condition()  # guards everything below
        self._queue = WindowQueue()
        self._commands: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._running: list[Slot] = []
        self._free_at = 0.0  # when the running batch is expected to be done
        self._stopping = False
        self._reason = "the engine has not started"
        self._thread = threading.Thread(target=self._live, name="engine", daemon=True)

    def start(self) -> None:
        self._reason = ""
        self._thread.start()

    def ready(self) -> tuple[bool, str]:
        alive = self._thread.is_alive() and not self._reason
        return alive, "" if alive else self._reason or "the engine has stopped"

    def resident(self) -> dict[str, int]:
        return self._residency.names()

    def backlog(self) -> float:
        """Seconds until windows that came now would start, as measured so far."""
        with self._wake:
            return self._backlog()

    def compute(
        self, run: Run, model: str, windows: Sequence[Window], admitted: bool = False
    ) -> Future[Computed]:
        """Queue a run's windows. Overloaded if they would wait too long, unless it was admitted before."""
        ticket = Ticket(run, model, windows)
        with self._wake:
            if self._stopping or self._reason:
                raise Unavailable(self._reason or "The service is stopping.", retry_after=5)
            wait = self._backlog()
            if wait > self._max_wait and not admitted:
                raise overloaded(wait, self._max_wait)
            self._queue.add(ticket)
            self._metrics.queue_depth.set(len(self._queue))
            self._wake.notify()
        return ticket.future

    def load(self, model: str) -> Future[None]:
        """Bring a model to the device; done by the engine's thread, between batches."""
        return self._command(lambda: self._warm(model))

    def unload(self, model: str) -> Future[None]:
        return self._command(lambda: self._residency.drop(model))

    def stop(self, grace: float) -> None:
        """Take nothing new, compute what waits within `grace` seconds, answer the rest Unavailable."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(grace)
        self._abandon(Unavailable("The service stopped before this request was computed.", retry_after=5))

    def _command(self, action: Callable[[], None]) -> Future[None]:
        future: Future[None] = Future()
        with self._wake:
            if self._stopping or self._reason:
                raise Unavailable(self._reason or "The service is stopping.", retry_after=5)
            self._commands.append((action, future))
            self._wake.notify()
        return future

    def _backlog(self) -> float:
        queued = sum(self._pace.seconds(model, weight) for model, weight in self._queue.weights())
        return queued + max(0.0, self._free_at - time.monotonic())

    def _live(self) -> None:
        """The thread. Whatever ends it unexpectedly ends the readiness, the waiting and the process."""
        try:
            while self._step():
                pass
        except BaseException as error:
            log.critical("the engine died: %s", error, exc_info=True)
            self._reason = f"the engine died: {type(error).__name__}"
            self._abandon(Unavailable("The engine failed; the service is restarting.", retry_after=10))
            self._on_death()

    def _step(self) -> bool:
        with self._wake:
            while not (self._commands or self._queue or self._stopping):
                self._wake.wait()
            command = self._commands.popleft() if self._commands else None
            batch = [] if command else self._take()
            if not command and not batch and self._stopping:
                return len(self._queue) > 0
        if command:
            self._obey(*command)
        elif batch:
            self._compute(batch[0].ticket.model, batch)
        return True

    def _take(self) -> list[Slot]:
        """The next batch, after those that nobody waits for any more were dropped."""
        for slot in self._queue.remove(
            lambda ticket: ticket.future.done() or ticket.run.obstacle() is not None
        ):
            reason, problem = slot.ticket.run.obstacle() or ("failed", None)
            self._metrics.dropped.labels(reason).inc()
            if problem:
                slot.ticket.fail(problem)
        batch = self._queue.take(self._residency.max_batch)
        self._metrics.queue_depth.set(len(self._queue))
        self._running = batch
        if batch:
            model, weight = batch[0].ticket.model, sum(slot.window.weight for slot in batch)
            self._free_at = time.monotonic() + self._pace.seconds(model, weight)
        return batch

    def _obey(self, action: Callable[[], None], future: Future[None]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            action()
        except Problem as problem:
            future.set_exception(problem)
        except BaseException:
            future.set_exception(Unavailable("The engine failed; the service is restarting."))
            raise
        else:
            future.set_result(None)

    def _compute(self, model: str, batch: list[Slot]) -> None:
        try:
            answers = self._run(model, [slot.window for slot in batch], [slot.ticket for slot in batch])
        except Problem as problem:  # the model cannot be loaded
            answers = [problem] * len(batch)
        for slot, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Problem):
                slot.ticket.fail(answer)
            else:
                slot.ticket.answer(slot.index, answer)
        # While nothing comes, a finished picture must not stay in memory.
        self._running = []

    def _warm(self, model: str) -> None:
        """Load, and run once for the pace; the run before that pays for the libraries' own preparations."""
        window = warm_window(self._catalogue, model)
        for _ in range(1 if self._runtime.device == "cpu" else 2):
            self._pace.forget(model)
            for answer in self._run(model, [window], []):
                if isinstance(answer, Problem):
                    raise answer

    def _run(
        self, model: str, windows: Sequence[Window], tickets: Sequence[Ticket]
    ) -> Sequence[Pixels | Problem]:
        held = self._residency.get(model)

        def run(windows: Sequence[Window]) -> list[Pixels]:
            try:
                outputs = held.resident.run(windows)
            except torch.OutOfMemoryError:
                held.ran_out_of_memory(len(windows))
                self._runtime.release()
                raise
            held.went_well()
            return outputs

        started = time.monotonic()
        for ticket in tickets:
            ticket.start(started)
        answers = run_isolated(run, windows)
        seconds = time.monotonic() - started
        labels = model, self._catalogue.entry(model).task
        self._metrics.compute_seconds.labels(*labels).observe(seconds)
        self._metrics.batch_size.labels(*labels).observe(len(windows))
        with self._wake:
            self._free_at = 0.0
            self._pace.observe(model, sum(window.weight for window in windows), seconds)
        return answers

    def _abandon(self, problem: Problem) -> None:
        with self._wake:
            for slot in (*self._running, *self._queue.remove(lambda _: True)):
                slot.ticket.fail(problem)
            commands, self._commands = self._commands, deque()
        for _, future in commands:
            if future.set_running_or_notify_cancel():
                future.set_exception(problem)


def overloaded(wait: float, limit: float) -> Overloaded:
    return Overloaded(
        f"The queue is {wait:.0f} s long, longer than RETOUCH_MAX_WAIT allows ({limit:g} s).",
        retry_after=max(1.0, wait - limit),
        limit=limit,
    )
