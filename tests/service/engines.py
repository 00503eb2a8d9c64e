"""A backend without networks, and jobs to give it: what the engine's tests are made of."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.manifest import ModelEntry
from models.network import SizeRule
from service.engine.catalogue import Facts
from service.engine.engine import Engine
from service.engine.windows import InpaintWindow, Pixels, Window
from service.errors import NotFound
from service.jobs.job import InpaintParameters, Job
from service.observability.metrics import Metrics
from service.settings import Settings

SIDE = 8


class FakeResident:
    def __init__(self, backend: FakeBackend, entry: ModelEntry) -> None:
        self.backend, self.name, self.bytes = backend, entry.name, 100

    def run(self, windows: Sequence[Window]) -> list[Pixels]:
        self.backend.batches.append((self.name, [int(window.pixels[0, 0, 0]) for window in windows]))
        assert len({window.shape for window in windows}) == 1
        self.backend.gate.wait(10)
        self.backend.before_answer(windows)
        return [window.pixels + np.array(1, window.pixels.dtype) for window in windows]


class FakeBackend:
    """Adds one to every pixel. A closed `gate` keeps the device busy; `before_answer` injects faults."""

    device, memory = "cpu", 1000

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

    def worthwhile(self, window: Window) -> int:
        return self.together

    def release(self) -> None: ...

    def until_busy(self, batches: int = 1) -> None:
        """Wait until so many batches have started."""
        until(lambda: len(self.batches) >= batches)


class FakeEntry(ModelEntry):
    task = "inpaint"  # type: ignore[assignment]


class FakeCatalogue:
    def entry(self, name: str) -> ModelEntry:
        if name == "missing":
            raise NotFound("no such model")
        return FakeEntry(name, "fake", folder=None)  # type: ignore[arg-type]

    def facts(self, name: str) -> Facts:
        return Facts(SIDE, SizeRule(), 0, False)


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for another thread or process; fail when it takes too long."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not true():
        assert time.monotonic() < end, "it did not happen"
        pause.wait(0.005)


def make_engine(backend: FakeBackend, on_death: Callable[[], None] = lambda: None, **settings: Any) -> Engine:
    engine = Engine(Settings(**settings), Metrics(), backend, FakeCatalogue(), on_death)  # type: ignore[arg-type]
    engine.start()
    return engine


def make_job(seconds: float = 60) -> Job:
    return Job("inpaint", "m", b"", InpaintParameters(), deadline=time.monotonic() + seconds)


def window(value: int, side: int = SIDE) -> InpaintWindow:
    return InpaintWindow(np.full((side, side, 3), value, np.uint8), np.ones((side, side), np.uint8))
