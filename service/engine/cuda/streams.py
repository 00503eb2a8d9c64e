"""Copies to and from a GPU beside its computing: one batch goes in or out while another is computed.

Pinned memory and the device's own are torch's caching allocators'; they keep a block until every stream that
was told of it has passed it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.engine.faults import told
from service.engine.runtimes.resident import Inputs, Planes

T = TypeVar("T")


class Streams:
    """Used by the thread that owns the device; what it must not wait for, a thread of its own waits for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.copying_in, self.computing, self.copying_out = (
            torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            for _ in range(3)
        )
        self._waiting = ThreadPoolExecutor(1, f"wait-{device}")

    def sent(self, planes: Planes) -> Inputs:
        """On their way to the device; what is launched under `computes` finds them there."""
        with torch.cuda.stream(self.copying_in):
            inputs = {
                name: pinned(arrays).to(self.device, non_blocking=True) for name, arrays in planes.items()
            }
        self.computing.wait_stream(self.copying_in)
        for tensor in inputs.values():
            tensor.record_stream(self.computing)
        return inputs

    def computes(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self.computing)

    def fetched(self, answer: Tensor, finish: Callable[[Tensor], T]) -> Future[T]:
        """What `finish` makes of the answer once it has come back: one copy, one wait."""
        self.copying_out.wait_stream(self.computing)
        answer.record_stream(self.copying_out)
        with torch.cuda.stream(self.copying_out):
            back = torch.empty(answer.shape, dtype=answer.dtype, pin_memory=True)
            back.copy_(answer, non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self.copying_out)

        def wait() -> T:
            with told():
                arrived.synchronize()
            return finish(back)

        return self._waiting.submit(wait)


def pinned(arrays: list[npt.NDArray[Any]]) -> Tensor:
    like = torch.from_numpy(arrays[0])
    together = torch.empty((len(arrays), *like.shape), dtype=like.dtype, pin_memory=True)
    np.stack(arrays, out=together.numpy())
    return together
