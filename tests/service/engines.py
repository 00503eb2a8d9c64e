"""A runtime without networks, and runs to give it: what the engine's tests are made of."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np

from models.manifest import ModelEntry
from models.network import SizeRule
from service.engine.catalogue import Traits
from service.engine.engine import Engine
from service.engine.runtimes import failed
from service.engine.windows import InpaintWindow, Pixels, Window
from service.errors import NotFound
from service.observability.metrics import Metrics
from service.settings import Settings
from service.work import Run
from tests.service.dispatchers import run_of

SIDE = 8


class FakeResident:
    def __init__(self, runtime: FakeRuntime, entry: ModelEntry) -> None:
        self.runtime, self.name, self.bytes, self.eager = runtime, entry.name, 100, 0

    def start(self, windows: Sequence[Window], batch: int) -> Future[list[Pixels]]:
        try:
            answer: Future[list[Pixels]] = Future()
            answer.set_result(self._run(windows))
            return answer
        except Exception as error:
            return failed(error)

    def shed(self) -> None: ...

    def _run(self, windows: Sequence[Window]) -> list[Pixels]:
        self.runtime.batches.append((self.name, [int(window.pixels[0, 0, 0]) for window in windows]))
        assert len({window.shape for window in windows}) == 1
        self.runtime.gate.wait(10)
        self.runtime.before_answer(windows)
        return [window.pixels + np.array(1, window.pixels.dtype) for window in windows]


class FakeRuntime:
    """Adds one to every pixel. A closed `gate` keeps the device busy; `before_answer` injects faults."""

    device, memory, in_flight = "cpu", 1000, 1

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.loaded: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.before_answer: Callable[[Sequence[Window]], Any] = lambda _: None
        self.together = sys.maxsize

    def load(self, entry: ModelEntry) -> FakeResident:
        self.loaded.append(entry.name)
        return FakeResident(self, entry)

    def room(self, resident: Any, window: Window, most: int) -> int:
        return most

    def worthwhile(self, resident: Any, window: Window) -> int:
        return self.together

    def release(self) -> None: ...

    def until_busy(self, batches: int = 1) -> None:
        """Wait until so many batches have started."""
        until(lambda: len(self.batches) >= batches)


class FakeEntry(ModelEntry):
    task = "inpaint"  # type: ignore[assignment]


class FakeKnown(dict[str, ModelEntry]):
    def __missing__(self, name: str) -> ModelEntry:
        if name == "missing":
            raise NotFound("no such model")
        return FakeEntry(name, "fake", folder=None)  # type: ignore[arg-type]


class FakeCatalogue:
    known = FakeKnown()

    def traits(self, name: str) -> Traits:
        return Traits(SIDE, SizeRule(), 0, False)


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for another thread or process; fail when it takes too long."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not true():
        assert time.monotonic() < end, "it did not happen"
        pause.wait(0.005)


def make_engine(runtime: FakeRuntime, on_death: Callable[[], None] = lambda: None, **settings: Any) -> Engine:
    engine = Engine(Settings(**settings), Metrics(), runtime, FakeCatalogue(), on_death)  # type: ignore[arg-type]
    engine.start()
    return engine


def make_run(seconds: float = 60, owner: str = "") -> Run:
    run = run_of("inpaint", "m", b"", seconds=seconds)
    run.work = replace(run.work, owner=owner)
    return run


def window(value: int, side: int = SIDE) -> InpaintWindow:
    return InpaintWindow(np.full((side, side, 3), value, np.uint8), np.ones((side, side), np.uint8))
