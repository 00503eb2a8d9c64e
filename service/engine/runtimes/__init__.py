"""What runs a network, behind one protocol: torch, or ONNX Runtime (RETOUCH_BACKEND)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from models.manifest import ModelEntry
from service.engine.windows import Pixels, Window
from service.settings import Settings


class Resident(Protocol):
    """A model on the device."""

    @property
    def bytes(self) -> int:
        """Device memory that it holds, measured."""

    def run(self, windows: Sequence[Window]) -> list[Pixels]:
        """Every window's answer, in the window's own dtype; the windows have one shape."""


class Runtime(Protocol):
    @property
    def device(self) -> str:
        """`cpu`, `cuda` or `cuda:N`."""

    @property
    def memory(self) -> int:
        """The device's memory in bytes."""

    def load(self, entry: ModelEntry) -> Resident: ...

    def room(self, resident: Resident, window: Window, most: int) -> int:
        """How many such windows fit together, up to `most`; measured where memory can be measured."""

    def worthwhile(self, window: Window) -> int:
        """How many such windows are computed faster together than one after the other."""

    def release(self) -> None:
        """Return freed memory to the device."""


def make_runtime(settings: Settings) -> Runtime:
    # Imported late: each pulls in libraries of its own.
    if settings.backend == "onnx":
        from service.engine.runtimes.onnx_runtime import OnnxRuntime

        return OnnxRuntime(settings)
    from service.engine.runtimes.torch_runtime import TorchRuntime

    return TorchRuntime(settings)
