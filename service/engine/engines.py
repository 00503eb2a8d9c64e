"""One engine a device behind the face of one: windows go to the device that has the least to do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from service.engine.engine import Engine
from service.engine.queue import Computed
from service.engine.windows import Pixels, Window

if TYPE_CHECKING:
    from service.work import Run

T = TypeVar("T")
R = TypeVar("R")


class Engines:
    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines

    def start(self) -> None:
        for engine in self._engines:
            engine.start()

    def ready(self) -> tuple[bool, str]:
        """All of them: an engine that died ends the process."""
        return min((engine.ready() for engine in self._engines), key=lambda ready: ready[0])

    def resident(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for engine in self._engines:
            total.update(engine.resident())
        return dict(total)

    def backlog(self) -> float:
        return min(engine.backlog() for engine in self._engines)

    def compute(
        self, run: Run, model: str, windows: Sequence[Window], admitted: bool = False
    ) -> Future[Computed]:
        shares = {engine: share for engine, share in self._dealt(model, windows).items() if share}
        parts = [
            engine.compute(run, model, [windows[index] for index in share], admitted)
            for engine, share in shares.items()
        ]
        if len(parts) == 1:
            return parts[0]

        def whole(computed: list[Computed]) -> Computed:
            outputs: dict[int, Pixels] = {}
            for share, part in zip(shares.values(), computed, strict=True):
                outputs.update(zip(share, part.outputs, strict=True))
            return Computed(
                [outputs[index] for index in range(len(windows))],
                min(part.queue for part in computed),
                max(part.compute for part in computed),
            )

        return joined(parts, whole)

    def load(self, model: str) -> Future[None]:
        return joined([engine.load(model) for engine in self._engines], lambda _: None)

    def unload(self, model: str) -> Future[None]:
        return joined([engine.unload(model) for engine in self._engines], lambda _: None)

    def stop(self, grace: float) -> None:
        until = time.monotonic() + grace
        for engine in self._engines:
            engine.stop(max(0.0, until - time.monotonic()))

    def _dealt(self, model: str, windows: Sequence[Window]) -> dict[Engine, list[int]]:
        """The numbers of the windows for each engine, one by one to the one that would be done first."""
        shares: dict[Engine, list[int]] = {engine: [] for engine in self._engines}
        done = {engine: engine.backlog() for engine in self._engines}
        before = {engine: engine.unanswered() for engine in self._engines}  # decides while no pace is known
        for index, window in enumerate(windows):
            engine = min(
                self._engines, key=lambda engine: (done[engine], before[engine] + len(shares[engine]))
            )
            shares[engine].append(index)
            done[engine] += engine.seconds(model, window.weight)
        return shares


def joined(futures: Sequence[Future[T]], combine: Callable[[list[T]], R]) -> Future[R]:
    """What is made of all results once all are there; an exception, if there is one."""
    whole: Future[R] = Future()
    whole.set_running_or_notify_cancel()

    def look(_: object) -> None:
        if not all(future.done() for future in futures):
            return
        with suppress(InvalidStateError):  # two ended at once, and both looked
            try:
                whole.set_result(combine([future.result() for future in futures]))
            except Exception as error:
                whole.set_exception(error)

    for future in futures:
        future.add_done_callback(look)
    return whole
