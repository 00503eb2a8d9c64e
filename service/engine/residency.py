"""Which models are on the device: as many as fit, the least recently used making room."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from models.manifest import WeightsError
from service.engine.catalogue import Catalogue
from service.engine.faults import DeviceLost
from service.engine.runtimes import Resident, Runtime
from service.engine.windows import InpaintWindow, UpscaleTile, Window
from service.errors import Problem, Unavailable

if TYPE_CHECKING:
    from service.observability.metrics import Metrics

log = logging.getLogger("retouch.engine")
T = TypeVar("T")

# After running out of memory the batches grow again, by one after so many that went well.
RECOVERY = 64


@dataclass
class Held:
    resident: Resident
    room: int  # windows that fit together, as measured when it was loaded

    def __post_init__(self) -> None:
        self.max_batch = self.room
        self._went_well = 0

    def went_well(self) -> None:
        self._went_well += 1
        if self._went_well >= RECOVERY:
            self._went_well = 0
            self.max_batch = min(self.room, self.max_batch + 1)

    def ran_out_of_memory(self, windows: int) -> None:
        self._went_well = 0
        self.max_batch = max(1, min(self.max_batch, windows // 2))
        self.resident.shed()


class Residency:
    """Used by the engine's thread alone, which owns the device; `names` may be read from anywhere."""

    def __init__(
        self, runtime: Runtime, catalogue: Catalogue, metrics: Metrics, max_bytes: int, max_batch: int
    ) -> None:
        self._runtime = runtime
        self._catalogue = catalogue
        self._metrics = metrics
        self._max_bytes = max_bytes or runtime.memory // 2
        self._max_batch = max_batch
        self._held: OrderedDict[str, Held] = OrderedDict()

    def names(self) -> dict[str, int]:
        """The resident models and the device bytes that each holds."""
        return {name: held.resident.bytes for name, held in self._held.copy().items()}

    def max_batch(self, name: str, window: Window) -> int:
        """How many windows like this one the model is given at a time; the one it is loaded for alone."""
        held = self._held.get(name)
        return min(held.max_batch, self._runtime.worthwhile(held.resident, window)) if held else 1

    def holds(self, name: str) -> bool:
        return name in self._held

    def get(self, name: str) -> Held:
        """The model on the device, loaded if need be; Unavailable, with the reason, if it cannot be."""
        if name not in self._held:
            try:
                self._load(name)
            except (Problem, DeviceLost):
                raise
            except WeightsError as error:
                raise Unavailable(str(error)) from error
            except Exception as error:
                log.exception("cannot load %s", name)
                raise Unavailable(f"Model {name!r} cannot be loaded: {type(error).__name__}.") from error
        self._held.move_to_end(name)
        return self._held[name]

    def drop(self, name: str) -> None:
        if self._held.pop(name, None) is not None:
            self._metrics.device_bytes.remove(name, self._runtime.device)
            self._runtime.release()
            log.info("unloaded %s", name)

    def _load(self, name: str) -> None:
        resident = self._with_room(lambda: self._runtime.load(self._catalogue.known[name]))
        while self._held and sum(self.names().values()) + resident.bytes > self._max_bytes:
            self._drop_oldest()
        window = warm_window(self._catalogue, name)
        room = self._with_room(lambda: self._runtime.room(resident, window, self._max_batch))
        self._held[name] = Held(resident, room)
        self._metrics.device_bytes.labels(name, self._runtime.device).set(resident.bytes)
        log.info("loaded %s: %d bytes, batches of up to %d", name, resident.bytes, room)

    def _with_room(self, action: Callable[[], T]) -> T:
        """What the action gives, other models leaving the device until there is memory for it."""
        while True:
            try:
                return action()
            except torch.OutOfMemoryError:
                if not self._held:
                    raise
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self.drop(next(iter(self._held)))


def warm_window(catalogue: Catalogue, name: str) -> Window:
    """A window like those that requests bring, to warm up and measure with."""
    side = catalogue.traits(name).window
    pixels = np.full((side, side, 3), 128, np.uint8)
    if catalogue.known[name].task == "inpaint":
        hole = np.zeros((side, side), np.uint8)
        hole[side // 4 : side // 4 + side // 8, side // 4 : side // 4 + side // 8] = 1
        return InpaintWindow(pixels, hole)
    return UpscaleTile(pixels, (Fraction(2), Fraction(2)), (0, 0), (0, 0, 2 * side, 2 * side))
