"""Networks run by ONNX Runtime, exported when they are loaded (see models.export)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnxruntime
import torch
from torch import Tensor, nn

from models import manifest, registry
from models.export import heavy_part, to_onnx
from models.manifest import ModelEntry
from service.engine.cores import usable_cores
from service.engine.cuda.arithmetic import FLOAT32, Arithmetic
from service.engine.runtimes.resident import TorchResident
from service.engine.runtimes.torch_runtime import TorchRuntime
from service.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from service.settings import Settings

log = logging.getLogger("retouch.engine")

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxRuntime(TorchRuntime):
    """The torch runtime with another arithmetic inside; measuring and batching are the same."""

    in_flight = 1  # pixels go over the host to a session: nothing overlaps

    def __init__(self, settings: Settings, device: torch.device | None = None) -> None:
        super().__init__(settings, device)
        self._providers: list[Any] = [CPU]
        if self._device.type == "cuda":
            if CUDA not in onnxruntime.get_available_providers():
                raise UsageError(
                    f"RETOUCH_BACKEND=onnx on {self._device}: this build of ONNX Runtime has no {CUDA}; "
                    "install onnxruntime-gpu for this CUDA and cuDNN, or use RETOUCH_BACKEND=torch"
                )
            options = {
                "device_id": self._device.index,
                # Of each session: it counts for itself, and torch does not see it.
                "gpu_mem_limit": settings.resident_bytes or self.memory // 2,
                "arena_extend_strategy": "kSameAsRequested",
                # The exhaustive search for convolutions costs up to a second for every new shape.
                "cudnn_conv_algo_search": "HEURISTIC",
                "use_tf32": 0,
            }
            self._providers.insert(0, (CUDA, options))

    def arithmetic(self, entry: ModelEntry) -> str:
        return f"onnx-{self._device.type}"

    def load(self, entry: ModelEntry) -> TorchResident:
        net = manifest.load(entry.name, entry)
        try:
            session = self._session(net, entry)
        except Unavailable:
            raise
        except Exception as error:
            log.warning("%s does not export, and runs in torch: %s", entry.name, error)
            return super().load(entry)
        net = net.to(self._device).requires_grad_(False)
        size = 2 * sum(tensor.nbytes for tensor in net.parameters())  # the session has its own copy
        return TorchResident(Exported(session, net), self._device, FLOAT32, size)

    def _arithmetic(self, entry: ModelEntry) -> Arithmetic:
        return FLOAT32

    def _session(self, net: nn.Module, entry: ModelEntry) -> onnxruntime.InferenceSession:
        if not registry.get(entry.architecture).exportable:
            raise ValueError("it is an algorithm, not a network")
        module, inputs, names = heavy_part(net, entry.task)
        content = to_onnx(module, inputs, names)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        session = onnxruntime.InferenceSession(content, options, providers=self._providers)
        if self._device.type == "cuda" and CUDA not in session.get_providers():
            # Otherwise it computes on the processor and says nothing.
            raise Unavailable(
                f"ONNX Runtime could not begin on {self._device}: its CUDA or cuDNN is not the one installed."
            )
        # A trace keeps the path of its example; other values in another batch show whether there are more.
        others = [tensor[:1].flip(-1) for tensor in inputs]
        with torch.inference_mode():
            torch.testing.assert_close(run(session, others), module(*others), rtol=1e-3, atol=1e-3)
        return session


class Exported(nn.Module):
    """Answers as the network does, with the session computing its heavy part."""

    def __init__(self, session: onnxruntime.InferenceSession, net: Any) -> None:
        super().__init__()
        self._session = session
        self.net = net

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None, **drawn: Tensor) -> Tensor:
        if sketch is not None or drawn:  # rare enough not to be exported a second time
            return self.net(image, mask, sketch, **drawn)
        return run(self._session, (image, mask))

    def features(self, image: Tensor) -> Tensor:
        return run(self._session, (image,))

    def render(self, features: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return self.net.render(features, *arguments, **options)


def run(session: onnxruntime.InferenceSession, inputs: Sequence[Tensor]) -> Tensor:
    names = [wanted.name for wanted in session.get_inputs()]
    arrays = {name: tensor.cpu().numpy() for name, tensor in zip(names, inputs, strict=True)}
    (output,) = session.run(None, arrays)
    return torch.from_numpy(output).to(inputs[0].device)
