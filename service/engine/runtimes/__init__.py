"""What runs a network, behind one protocol: torch, or ONNX Runtime (RETOUCH_BACKEND)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from models.manifest import ModelEntry
from service.engine.windows import Pixels, Window

if TYPE_CHECKING:
    from service.settings import Settings


class Resident(Protocol):
    """A model on the device."""

    @property
    def bytes(self) -> int:
        """Device memory that it holds, measured."""

    @property
    def eager(self) -> int:
        """Shapes of windows that should run as a graph and do not."""

    def start(self, windows: Sequence[Window], batch: int) -> Future[list[Pixels]]:
        """Every window's answer, in the window's own dtype; the windows have one shape.

        A GPU is given `batch` windows always, so that the answers do not depend on how many came together;
        it is still at work when this comes back, and may be given another batch meanwhile. Whatever fails
        fails in the future.
        """

    def shed(self) -> None:
        """Let go of memory that only saves time."""


class Runtime(Protocol):
    @property
    def device(self) -> str:
        """`cpu` or `cuda:N`."""

    @property
    def memory(self) -> int:
        """The device's memory in bytes."""

    @property
    def in_flight(self) -> int:
        """Batches that are on their way at once: a GPU copies one while it computes another."""

    def arithmetic(self, entry: ModelEntry) -> str:
        """What but the weights the bytes of its answers depend on here; empty for torch on a CPU."""

    def load(self, entry: ModelEntry) -> Resident:
        """What it is here, is given to what follows."""

    def room(self, resident: Any, window: Window, most: int) -> int:
        """How many such windows fit together, up to `most`; measured where memory can be measured."""

    def worthwhile(self, resident: Any, window: Window) -> int:
        """How many such windows are computed faster together than one after the other."""

    def release(self) -> None:
        """Return freed memory to the device."""


def failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def make_runtimes(settings: Settings) -> list[Runtime]:
    """One a device."""
    # Imported late: each pulls in libraries of its own.
    from service.engine.runtimes.torch_runtime import TorchRuntime, devices

    kind: type[TorchRuntime] = TorchRuntime
    if settings.backend == "onnx":
        from service.engine.runtimes.onnx_runtime import OnnxRuntime

        kind = OnnxRuntime
    return [kind(settings, device) for device in devices(settings.device)]
