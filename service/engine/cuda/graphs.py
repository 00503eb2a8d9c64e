"""Passes of a network captured as graphs: a thousand launches become one.

A graph has one shape and one number of windows, and computes in memory of its own, which all graphs of a
network share: what it answers is copied before another is replayed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from service.engine.faults import DeviceLost, meaning
from service.engine.runtimes.resident import Inputs

log = logging.getLogger("retouch.engine")

MOST = 8  # graphs of a network; of inpainting windows there are no more shapes than that
REMEMBERED = 256  # shapes
WARM_UPS = 2  # runs before a capture, in which libraries choose and load their kernels

Compute = Callable[[Inputs], Tensor]


class Replayed(Protocol):
    def replay(self) -> None:
        """Compute again, from the inputs that were captured into the answer that was."""


# Gives the graph, the answer that it writes, and the bytes that it holds.
Capture = Callable[[Callable[[], Tensor]], tuple[Replayed, Tensor, int]]


@dataclass(frozen=True)
class Captured:
    inputs: Inputs
    graph: Replayed
    answer: Tensor
    bytes: int

    def __call__(self, inputs: Inputs) -> Tensor:
        for name, tensor in inputs.items():
            self.inputs[name].copy_(tensor)
        self.graph.replay()
        return self.answer.clone()


class Graphs:
    """The last used passes of one network. Shapes that come once are computed kernel by kernel, as are those
    that cannot be captured, and all of a network that looks at values (`capture` is None)."""

    def __init__(self, capture: Capture | None) -> None:
        self._capture = capture
        self._captured: OrderedDict[Hashable, Captured] = OrderedDict()
        self._seen: OrderedDict[Hashable, bool] = OrderedDict()  # and whether it is worth a try

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self._captured.copy().values())

    @property
    def eager(self) -> int:
        """Shapes that could not be captured."""
        return sum(not hopeful for hopeful in self._seen.values())

    def run(self, key: Hashable, compute: Compute, inputs: Inputs) -> Tensor:
        if self._capture and key not in self._captured and self._seen.get(key):
            self._try(self._capture, key, compute, inputs)
        self._seen.setdefault(key, True)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if key not in self._captured:
            return compute(inputs)
        self._captured.move_to_end(key)
        return self._captured[key](inputs)

    def clear(self) -> None:
        self._captured.clear()

    def _try(self, capture: Capture, key: Hashable, compute: Compute, inputs: Inputs) -> None:
        while len(self._captured) >= MOST:
            self._captured.popitem(last=False)
        kept = {name: tensor.clone() for name, tensor in inputs.items()}
        try:
            for _ in range(WARM_UPS):
                compute(kept)
            captured = Captured(kept, *capture(lambda: compute(kept)))
        except Exception as error:
            if isinstance(meaning(error), DeviceLost):
                raise
            self._seen[key] = False
            log.warning("no graph of %s, which runs kernel by kernel: %s", key, error)
        else:
            self._captured[key] = captured


class CudaCapture:
    """Captures on the current stream, into one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Replayed, Tensor, int]:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        # Other threads may wait for copies meanwhile; only what this one does must be fit for a graph.
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            answer = compute()
        return graph, answer, torch.cuda.memory_reserved() - before
