"""Networks as they are, on the CPU or a CUDA device."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from models import manifest
from models.manifest import ModelEntry
from service.engine.cores import usable_cores
from service.engine.isolation import DeviceLost
from service.engine.runtimes import Resident
from service.engine.windows import InpaintWindow, Pixels, UpscaleTile, Window, peak
from service.errors import UsageError
from service.settings import Settings

log = logging.getLogger("retouch.engine")
T = TypeVar("T")

# On a CPU larger batches win nothing and make everyone in them wait. Nor do those of more megapixels, which
# leave its caches: four tiles or windows of 512x512 took up to a quarter longer together than one by one.
CPU_BATCH = 4
CPU_TOGETHER = 0.27  # megapixels
# Leave this share of the free device memory to fragmentation and to libraries' workspaces.
MEMORY_SHARE = 0.8


class NotFinite(Exception):
    """The network answered with infinities or NaN, in float32 too."""


def choose_device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"RETOUCH_DEVICE is {wanted}, but {torch.cuda.device_count()} GPUs are to be seen")
    return device


class TorchRuntime:
    def __init__(self, settings: Settings) -> None:
        self._device = choose_device(settings.device)
        self._half = half_type(settings.precision, self._device)
        if self._device.type == "cpu":
            torch.set_num_threads(usable_cores())
        else:
            # TF32 rounds so coarsely that an answer would depend on what shares its batch.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False

    @property
    def device(self) -> str:
        return str(self._device)

    @property
    def memory(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.get_device_properties(self._device).total_memory)
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def load(self, entry: ModelEntry) -> TorchResident:
        before = self._allocated()
        net = manifest.load(entry.name, entry).requires_grad_(False)
        # Pictures arrive with the channels last; weights to match save a fifth of the convolutions' time.
        net = net.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        size = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))
        return TorchResident(net, self._device, self._half, max(size, self._allocated() - before))

    def room(self, resident: Resident, window: Window, most: int) -> int:
        if self._device.type == "cpu":
            return min(most, CPU_BATCH)
        one, two = (self._peak(resident, [window] * count) for count in (1, 2))
        each = max(two - one, 1)
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(1, min(most, int((free * MEMORY_SHARE - one) / each) + 1))

    def worthwhile(self, window: Window) -> int:
        return max(1, int(CPU_TOGETHER / window.weight)) if self._device.type == "cpu" else sys.maxsize

    def release(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _allocated(self) -> int:
        return int(torch.cuda.memory_allocated(self._device)) if self._device.type == "cuda" else 0

    def _peak(self, resident: Resident, windows: list[Window]) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        before = self._allocated()
        resident.run(windows)
        return int(torch.cuda.max_memory_allocated(self._device)) - before


def half_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type to compute in under autocast, or None for float32.

    `auto` is float32: half precision moves so many values across a rounding boundary from one batch size
    to the next that equal requests would get visibly different bytes.
    """
    if device.type == "cpu" or precision in ("auto", "float32"):
        return None
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}[precision]


class TorchResident:
    def __init__(
        self, net: nn.Module, device: torch.device, half: torch.dtype | None = None, size: int = 0
    ) -> None:
        self.net: Any = net
        self.bytes = size
        self._device = device
        self._half = half

    def run(self, windows: Sequence[Window]) -> list[Pixels]:
        try:
            return self._run(windows)
        except torch.OutOfMemoryError:
            raise
        except torch.AcceleratorError as error:
            raise DeviceLost(str(error)) from error

    @torch.inference_mode()
    def _run(self, windows: Sequence[Window]) -> list[Pixels]:
        like = windows[0].pixels
        image = to_unit(np.stack([window.pixels for window in windows]), self._device)
        compute: Callable[[Tensor], Tensor | list[Tensor]]
        if isinstance(windows[0], InpaintWindow):
            holes = cast(Sequence[InpaintWindow], windows)
            compute = lambda image: self._fill(image, holes)  # noqa: E731
        else:
            tiles = cast(Sequence[UpscaleTile], windows)
            compute = lambda image: self._enlarge(image, tiles)  # noqa: E731
        # Sixteen bits a channel do not survive arithmetic in half precision.
        if self._half is not None and like.dtype == np.uint8:
            with torch.autocast(self._device.type, dtype=self._half):
                answers = compute(image)
            if all(map(finite, answers)):
                return [from_unit(answer, like) for answer in answers]
            log.warning("half precision overflowed; the batch runs again in float32")
        answers = compute(image)
        if not all(map(finite, answers)):
            raise NotFinite("the network's answer is not finite")
        return [from_unit(answer, like) for answer in answers]

    def _fill(self, image: Tensor, windows: Sequence[InpaintWindow]) -> Tensor:
        hole = self._plane([window.hole for window in windows])
        sketches = [window.sketch for window in windows if window.sketch is not None]
        extra = {"sketch": self._plane(sketches)} if sketches else {}
        seeds = [window.seed for window in windows]
        if any(seeds):  # 0 is every network's own; only those that draw are given others
            extra["seed"] = torch.tensor(seeds, device=self._device)
        filled = self.net(image, hole, **extra)
        return torch.where(hole > 0, filled.float(), image)

    def _enlarge(self, image: Tensor, tiles: Sequence[UpscaleTile]) -> list[Tensor]:
        features = self.net.features(image)
        return [
            self.net.render(features[i : i + 1], tile.scale, origin=tile.origin, region=tile.region)[0]
            for i, tile in enumerate(tiles)
        ]

    def _plane(self, planes: Sequence[np.ndarray[Any, Any]]) -> Tensor:
        return torch.from_numpy(np.stack(planes)).to(self._device).float().unsqueeze(1)


def to_unit(pixels: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """(batch, height, width, channel) integers to (batch, channel, height, width) in [0, 1]."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(peak(pixels))


def from_unit(image: Tensor, like: Pixels) -> Pixels:
    """(channel, height, width) back to integers, rounded and clamped before they leave the device."""
    # The product is the one copy; what follows works in it.
    values = (image.float() * peak(like)).round_().clamp_(0, peak(like)).permute(1, 2, 0).contiguous()
    if like.dtype == np.uint8:
        return values.to(torch.uint8).cpu().numpy()
    return values.to(torch.int32).cpu().numpy().astype(np.uint16)


def finite(answer: Tensor) -> bool:
    """By the sum, which needs no second picture: one value that is not finite makes it so."""
    return math.isfinite(answer.sum(dtype=torch.float32))
