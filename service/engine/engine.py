"""The engine: one thread that owns the device, and a queue in front of it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from service.engine.catalogue import Catalogue
from service.engine.isolation import run_isolated
from service.engine.pace import Pace
from service.engine.queue import Computed, Slot, Ticket, WindowQueue
from service.engine.residency import Held, Residency, warm_window
from service.engine.runtimes import Runtime, failed
from service.engine.windows import Pixels, Window
from service.errors import Overloaded, Problem, Unavailable

if TYPE_CHECKING:
    from service.observability.metrics import Metrics
    from service.settings import Settings
    from service.work import Run

log = logging.getLogger("retouch.engine")


@dataclass
class Batch:
    """Windows on the device together; without slots where nobody waits for them."""

    model: str
    windows: Sequence[Window]
    slots: Sequence[Slot] = ()
    started: float = field(default_factory=time.monotonic)
    held: Held | None = None
    answer: Future[list[Pixels]] | None = None

    @property
    def weight(self) -> float:
        return sum(window.weight for window in self.windows)

    @property
    def done(self) -> bool:
        return self.answer is not None and self.answer.done()

    def start(self) -> None:
        self.started = time.monotonic()
        for slot in self.slots:
            slot.ticket.start(self.started)


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
        self._in_flight: deque[Batch] = deque()
        self._finished = 0.0  # when the last one did
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

    def seconds(self, model: str, weight: float) -> float:
        """That windows of this weight would take, as measured so far."""
        with self._wake:
            return self._pace.seconds(model, weight)

    def unanswered(self) -> int:
        """Windows that wait or are being computed."""
        with self._wake:
            return len(self._queue) + sum(len(batch.windows) for batch in self._in_flight)

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
            self._metrics.queue_depth.inc(len(windows))
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
        if not self._in_flight:
            return queued
        started = sum(self._pace.seconds(batch.model, batch.weight) for batch in self._in_flight)
        return queued + max(0.0, started - (time.monotonic() - self._began(self._in_flight[0])))

    def _began(self, batch: Batch) -> float:
        """When the device, which does one after the other, could turn to the oldest batch."""
        return max(batch.started, self._finished)

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
            while (action := self._next()) is None:
                if self._stopping and not (self._in_flight or self._queue or self._commands):
                    return False
                self._wake.wait()
        action()
        return True

    def _next(self) -> Callable[[], object] | None:
        """What is done is answered first; a command waits for an idle device, a batch for a place on it."""
        if self._in_flight and self._in_flight[0].done:
            return self._finish
        if self._commands:
            return None if self._in_flight else partial(self._obey, *self._commands.popleft())
        if len(self._in_flight) < self._runtime.in_flight and (slots := self._take()):
            batch = Batch(slots[0].ticket.model, [slot.window for slot in slots], slots)
            self._in_flight.append(batch)
            return partial(self._start, batch)
        return None

    def _take(self) -> list[Slot]:
        """The next batch, after those that nobody waits for any more were dropped."""
        before = len(self._queue)
        for slot in self._queue.remove(
            lambda ticket: ticket.future.done() or ticket.run.obstacle() is not None
        ):
            reason, problem = slot.ticket.run.obstacle() or ("failed", None)
            self._metrics.dropped.labels(reason).inc()
            if problem:
                slot.ticket.fail(problem)
        batch = self._queue.take(self._residency.max_batch)
        self._metrics.queue_depth.dec(before - len(self._queue))
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

    def _warm(self, model: str) -> None:
        """Load, and run for the pace; runs before that pay for the libraries' preparations and the graph."""
        window = warm_window(self._catalogue, model)
        for _ in range(1 if self._runtime.device == "cpu" else 3):
            self._pace.forget(model)
            batch = Batch(model, [window])
            self._in_flight.append(batch)
            self._start(batch)
            for answer in self._finish():
                if isinstance(answer, Problem):
                    raise answer

    def _start(self, batch: Batch) -> None:
        """Have the newest batch computed: a GPU is still at it when this comes back, a CPU is done."""
        while len(self._in_flight) > 1 and not self._residency.holds(batch.model):
            self._finish()  # loading measures the device, and may drop what is in use
        try:
            batch.held = self._residency.get(batch.model)
        except Problem as problem:  # the model cannot be loaded
            batch.answer = failed(problem)
        else:
            batch.start()
            batch.answer = self._begin(batch, batch.windows)
        batch.answer.add_done_callback(self._notify)

    def _begin(self, batch: Batch, windows: Sequence[Window]) -> Future[list[Pixels]]:
        assert batch.held is not None
        return batch.held.resident.start(windows, self._residency.max_batch(batch.model, windows[0]))

    def _notify(self, _: object) -> None:
        with self._wake:
            self._wake.notify()

    def _finish(self) -> Sequence[Pixels | Problem]:
        """Answer the oldest batch, once it is done; one that failed is taken apart."""
        batch = self._in_flight[0]
        try:
            answers = run_isolated(partial(self._outputs, batch), batch.windows)
        except Problem as problem:
            answers = [problem] * len(batch.windows)
        now = time.monotonic()
        seconds = now - self._began(batch)
        for slot, answer in zip(batch.slots, answers, strict=False):
            if isinstance(answer, Problem):
                slot.ticket.fail(answer)
            else:
                slot.ticket.answer(slot.index, answer)
        with self._wake:
            # While nothing comes, a finished picture must not stay in memory.
            self._in_flight.popleft()
            self._finished = now
            if batch.held is not None:
                self._pace.observe(batch.model, batch.weight, seconds)
        if batch.held is not None:
            labels = batch.model, self._catalogue.known[batch.model].task
            self._metrics.compute_seconds.labels(*labels).observe(seconds)
            self._metrics.batch_size.labels(*labels).observe(len(batch.windows))
            self._metrics.eager_shapes.labels(batch.model, self._runtime.device).set(
                batch.held.resident.eager
            )
        return answers

    def _outputs(self, batch: Batch, windows: Sequence[Window]) -> list[Pixels]:
        """What the batch came to, at first; if that was nothing, what some of its windows come to."""
        answer, batch.answer = batch.answer, None
        try:
            outputs = (answer or self._begin(batch, windows)).result()
        except torch.OutOfMemoryError:
            assert batch.held is not None
            batch.held.ran_out_of_memory(len(windows))
            self._runtime.release()
            raise
        assert batch.held is not None
        batch.held.went_well()
        return outputs

    def _abandon(self, problem: Problem) -> None:
        with self._wake:
            started = [slot for batch in self._in_flight for slot in batch.slots]
            for slot in (*started, *self._queue.remove(lambda _: True)):
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
