"""A network on its device: windows become tensors of integers, and its answers integers again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from service.engine.cuda.arithmetic import FLOAT32, Arithmetic
from service.engine.faults import told
from service.engine.runtimes import failed
from service.engine.windows import InpaintWindow, Pixels, UpscaleTile, Window, peak

log = logging.getLogger("retouch.engine")

Planes = Mapping[str, list[npt.NDArray[Any]]]  # what the windows of a batch hold, by name
Inputs = Mapping[str, Tensor]  # the same on the device, windows first


class NotFinite(Exception):
    """The network answered with infinities or NaN, in float32 too."""


class TorchResident:
    """Computes as soon as it is asked, and answers when it is done."""

    eager = 0

    def __init__(
        self, net: nn.Module, device: torch.device, arithmetic: Arithmetic = FLOAT32, size: int = 0
    ) -> None:
        self.net: Any = net
        self.device = device
        self.arithmetic = arithmetic
        self.work = 0.0  # operations a pixel, as counted on a GPU when it was loaded
        self._size = size

    @property
    def bytes(self) -> int:
        return self._size

    def start(self, windows: Sequence[Window], batch: int = 1) -> Future[list[Pixels]]:
        try:
            answer: Future[list[Pixels]] = Future()
            answer.set_result(self.run(windows))
            return answer
        except Exception as error:
            return failed(error)

    @torch.inference_mode()
    def run(self, windows: Sequence[Window], arithmetic: Arithmetic | None = None) -> list[Pixels]:
        """The answers, here and now."""
        arithmetic = arithmetic or self.suited(windows)
        with told():
            inputs = {
                name: torch.from_numpy(np.stack(planes)).to(self.device)
                for name, planes in planes_of(windows).items()
            }
            with arithmetic.applied(self.device):
                answers = self.computed(inputs, windows)
            finite = finite_of(answers).tolist()
            pixels = [integers(answer, peak(windows[0].pixels)).cpu().numpy() for answer in answers]
        return self.checked(windows, finite, pixels, arithmetic)

    def shed(self) -> None:
        """Let go of what only saves time."""

    def suited(self, windows: Sequence[Window]) -> Arithmetic:
        # Sixteen bits a channel do not survive rounded arithmetic.
        return self.arithmetic if windows[0].pixels.dtype == np.uint8 else FLOAT32

    def computed(self, inputs: Inputs, windows: Sequence[Window]) -> Sequence[Tensor]:
        """(channel, height, width) of each window, in [0, 1]."""
        if isinstance(windows[0], InpaintWindow):
            return list(self.filled(inputs))
        return self.enlarged(self.features(inputs), cast(Sequence[UpscaleTile], windows))

    def filled(self, inputs: Inputs) -> Tensor:
        image, hole = to_unit(inputs["pixels"]), plane(inputs["hole"])
        extra = {"sketch": plane(inputs["sketch"])} if "sketch" in inputs else {}
        if "seed" in inputs:
            extra["seed"] = inputs["seed"]
        return torch.where(hole > 0, self.net(image, hole, **extra).float(), image)

    def features(self, inputs: Inputs) -> Tensor:
        return self.net.features(to_unit(inputs["pixels"]))

    def enlarged(self, features: Tensor, tiles: Sequence[UpscaleTile]) -> list[Tensor]:
        return [
            self.net.render(features[i : i + 1], tile.scale, origin=tile.origin, region=tile.region)[0]
            for i, tile in enumerate(tiles)
        ]

    def checked(
        self,
        windows: Sequence[Window],
        finite: Sequence[bool],
        pixels: Sequence[npt.NDArray[Any]],
        arithmetic: Arithmetic,
    ) -> list[Pixels]:
        """The answers in the windows' own type; what overflowed in half precision is computed again."""
        if not all(finite):
            if arithmetic.half is None:
                raise NotFinite("the network's answer is not finite")
            log.warning(
                "half precision overflowed in %d of %d windows", len(finite) - sum(finite), len(finite)
            )
        return [
            cast(Pixels, answer.astype(window.pixels.dtype, copy=False))
            if sound
            else self.run([window], FLOAT32)[0]
            for window, sound, answer in zip(windows, finite, pixels, strict=True)
        ]


def planes_of(windows: Sequence[Window]) -> Planes:
    planes: dict[str, list[npt.NDArray[Any]]] = {"pixels": [window.pixels for window in windows]}
    if isinstance(windows[0], InpaintWindow):
        holes = cast(Sequence[InpaintWindow], windows)
        planes["hole"] = [window.hole for window in holes]
        if sketches := [window.sketch for window in holes if window.sketch is not None]:
            planes["sketch"] = sketches
        if any(window.seed for window in holes):  # 0 is every network's own; only those that draw get others
            planes["seed"] = [np.array(window.seed) for window in holes]
    return planes


def to_unit(pixels: Tensor) -> Tensor:
    """(batch, height, width, channel) integers to (batch, channel, height, width) in [0, 1]."""
    most = torch.iinfo(pixels.dtype).max
    return pixels.permute(0, 3, 1, 2).float().div_(most)


def plane(values: Tensor) -> Tensor:
    return values.float().unsqueeze(1)


def finite_of(answers: Sequence[Tensor]) -> Tensor:
    """By the sums, which need no second picture: one value that is not finite makes one so."""
    return torch.stack([answer.sum(dtype=torch.float32) for answer in answers]).isfinite()


def integers(image: Tensor, most: int) -> Tensor:
    """(channel, height, width) as integers (height, width, channel), rounded and clamped on the device."""
    # The product is the one copy; what follows works in it.
    values = (image.float() * most).round_().clamp_(0, most).permute(1, 2, 0).contiguous()
    return values.to(torch.uint8 if most == 255 else torch.int32)
