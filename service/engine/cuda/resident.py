"""A network on a GPU: a batch is on its way when `start` comes back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from service.engine.cuda.arithmetic import Arithmetic
from service.engine.cuda.graphs import Graphs
from service.engine.cuda.streams import Streams
from service.engine.faults import told
from service.engine.runtimes import failed
from service.engine.runtimes.resident import Inputs, TorchResident, finite_of, integers, planes_of
from service.engine.windows import InpaintWindow, Pixels, UpscaleTile, Window, peak


class CudaResident(TorchResident):
    def __init__(
        self,
        net: nn.Module,
        device: torch.device,
        arithmetic: Arithmetic,
        size: int,
        streams: Streams,
        graphs: Graphs,
    ) -> None:
        super().__init__(net, device, arithmetic, size)
        self._streams = streams
        self._graphs = graphs

    @property
    def bytes(self) -> int:
        return self._size + self._graphs.bytes

    @property
    def eager(self) -> int:  # type: ignore[override]
        return self._graphs.eager

    @torch.inference_mode()
    def start(self, windows: Sequence[Window], batch: int = 1) -> Future[list[Pixels]]:
        """Padded to `batch` windows, so that company changes no kernel and no answer."""
        arithmetic, most = self.suited(windows), peak(windows[0].pixels)
        padded = [*windows, *[windows[-1]] * (batch - len(windows))]
        try:
            with told():
                inputs = self._streams.sent(planes_of(padded))
                with self._streams.computes(), arithmetic.applied(self.device):
                    packed, shapes = self._launched(inputs, padded, len(windows), arithmetic)

                def finish(back: Tensor) -> list[Pixels]:
                    finite, pixels = unpack(back, shapes, most)
                    return self.checked(windows, finite[: len(windows)], pixels[: len(windows)], arithmetic)

                return self._streams.fetched(packed, finish)
        except Exception as error:
            return failed(error)

    def _launched(
        self, inputs: Inputs, windows: Sequence[Window], wanted: int, arithmetic: Arithmetic
    ) -> tuple[Tensor, list[tuple[int, ...]]]:
        """The packed answers, of all windows or of those that are wanted, and their shapes."""
        key = (arithmetic.name, *((name, tensor.shape, tensor.dtype) for name, tensor in inputs.items()))
        if isinstance(windows[0], InpaintWindow):
            return self._graphs.run(key, self._filled, inputs), [window.pixels.shape for window in windows]
        # Where the pixels of a tile are read from is its own: no graph holds that.
        tiles = cast(Sequence[UpscaleTile], windows[:wanted])
        answers = self.enlarged(self._graphs.run(key, self.features, inputs), tiles)
        return pack(answers, peak(windows[0].pixels)), [(*tile.region[2:], 3) for tile in tiles]

    def _filled(self, inputs: Inputs) -> Tensor:
        return pack(list(self.filled(inputs)), torch.iinfo(inputs["pixels"].dtype).max)

    def shed(self) -> None:
        self._graphs.clear()


def pack(answers: Sequence[Tensor], most: int) -> Tensor:
    """All that goes back of a batch as one row of bytes: which answers are finite, and the answers."""
    rows = [integers(answer, most).flatten().view(torch.uint8) for answer in answers]
    return torch.cat([finite_of(answers).view(torch.uint8), *rows])


def unpack(packed: Tensor, shapes: Sequence[tuple[int, ...]], most: int) -> tuple[list[bool], list[Pixels]]:
    """Copied out of pinned memory, which the next batch wants."""
    row, kind = packed.numpy(), np.dtype(np.uint8 if most == 255 else np.int32)
    ends = np.cumsum([len(shapes), *(math.prod(shape) * kind.itemsize for shape in shapes)])
    pixels = [
        row[start:end].view(kind).reshape(shape).copy()
        for start, end, shape in zip(ends, ends[1:], shapes, strict=False)
    ]
    return row[: len(shapes)].astype(bool).tolist(), pixels
