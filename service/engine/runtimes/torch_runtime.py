"""Networks as they are, on the CPU or a CUDA device."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from models import manifest, registry
from models.manifest import ModelEntry
from service.engine.cores import usable_cores
from service.engine.cuda.arithmetic import Arithmetic, arithmetic_of, fix_switches
from service.engine.cuda.graphs import CudaCapture, Graphs
from service.engine.cuda.resident import CudaResident
from service.engine.cuda.streams import Streams
from service.engine.faults import told
from service.engine.runtimes.resident import TorchResident
from service.engine.windows import Window
from service.errors import UsageError

if TYPE_CHECKING:
    from service.settings import Settings

# On a CPU larger batches win nothing and make everyone in them wait. Nor do those of more megapixels, which
# leave its caches: four tiles or windows of 512x512 took up to a quarter longer together than one by one.
CPU_BATCH = 4
CPU_TOGETHER = 0.27  # megapixels
# Operations that keep a GPU busy: 0.7 ms of an H100's TF32. Computed, not measured. It decides how many
# windows a graph has, so it must not be measured anew in each process, whose answers would differ.
SATURATING = 1e11
IN_FLIGHT = 2
# Leave this share of the free device memory to fragmentation and to libraries' workspaces.
MEMORY_SHARE = 0.8


def devices(wanted: str) -> list[torch.device]:
    """Those that RETOUCH_DEVICE means: `cuda` all GPUs that are to be seen."""
    count = torch.cuda.device_count() if wanted != "cpu" else 0
    if wanted == "cpu" or (wanted == "auto" and not count):
        return [torch.device("cpu")]
    _, _, number = wanted.partition(":")
    chosen = [int(number)] if number else range(count)
    if not chosen or max(chosen) >= count:
        raise UsageError(f"RETOUCH_DEVICE is {wanted}, but {count} GPUs are to be seen")
    return [torch.device("cuda", index) for index in chosen]


class TorchRuntime:
    def __init__(self, settings: Settings, device: torch.device | None = None) -> None:
        self._device = device or devices(settings.device)[0]
        self._precision = settings.precision
        if self._device.type == "cpu":
            torch.set_num_threads(usable_cores())
        else:
            fix_switches()
            self._streams = Streams(self._device)

    @property
    def device(self) -> str:
        return str(self._device)

    @property
    def memory(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.get_device_properties(self._device).total_memory)
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    @property
    def in_flight(self) -> int:
        return 1 if self._device.type == "cpu" else IN_FLIGHT

    def arithmetic(self, entry: ModelEntry) -> str:
        return "" if self._device.type == "cpu" else f"cuda-{self._arithmetic(entry).name}"

    def load(self, entry: ModelEntry) -> TorchResident:
        with told():
            before = self._allocated()
            net = manifest.load(entry.name, entry).requires_grad_(False)
            # Pictures arrive with the channels last; weights to match save a fifth of the convolutions' time.
            net = net.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            size = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))
            arithmetic = self._arithmetic(entry)
            if self._device.type == "cpu":
                return TorchResident(net, self._device, arithmetic, size)
            size = max(size, self._allocated() - before)
            capture = CudaCapture() if registry.get(entry.architecture).exportable else None
            return CudaResident(net, self._device, arithmetic, size, self._streams, Graphs(capture))

    def room(self, resident: TorchResident, window: Window, most: int) -> int:
        if self._device.type == "cpu":
            return min(most, CPU_BATCH)
        with FlopCounterMode(display=False) as counted:
            one = self._peak(resident, [window])
        resident.work = counted.get_total_flops() / area(window)
        try:
            each = max(self._peak(resident, [window] * 2) - one, 1)
        except torch.OutOfMemoryError:
            return 1
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(1, min(most, int((free * MEMORY_SHARE - one) / each) + 1))

    def worthwhile(self, resident: TorchResident, window: Window) -> int:
        if self._device.type == "cpu":
            return max(1, int(CPU_TOGETHER / window.weight))
        return max(1, math.ceil(SATURATING / max(1.0, resident.work * area(window))))

    def release(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _arithmetic(self, entry: ModelEntry) -> Arithmetic:
        return arithmetic_of(self._precision, self._device, registry.get(entry.architecture))

    def _allocated(self) -> int:
        return int(torch.cuda.memory_allocated(self._device)) if self._device.type == "cuda" else 0

    def _peak(self, resident: TorchResident, windows: list[Window]) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        before = self._allocated()
        resident.run(windows)
        return int(torch.cuda.max_memory_allocated(self._device)) - before


def area(window: Window) -> int:
    return int(window.pixels.shape[0] * window.pixels.shape[1])
