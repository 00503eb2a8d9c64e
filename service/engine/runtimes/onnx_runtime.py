"""Networks run by ONNX Runtime, exported when they are loaded (see models.export)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from models import manifest, registry
from models.export import heavy_part, to_onnx
from models.manifest import ModelEntry
from service.engine.cores import usable_cores
from service.engine.runtimes.torch_runtime import TorchResident, TorchRuntime
from service.settings import Settings

log = logging.getLogger("retouch.engine")


class OnnxRuntime(TorchRuntime):
    """The torch runtime with another arithmetic inside; measuring and batching are the same."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Answers must not depend on the batch, which half precision here would make them do.
        self._half = None
        # The exhaustive search for convolutions costs up to a second for every new shape.
        cuda = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"})
        self._providers: list[Any] = [cuda] if self._device.type == "cuda" else []
        self._providers.append("CPUExecutionProvider")

    def load(self, entry: ModelEntry) -> TorchResident:
        net = manifest.load(entry.name, entry)
        try:
            session = self._session(net, entry)
        except Exception as error:
            log.warning("%s does not export, and runs in torch: %s", entry.name, error)
            return super().load(entry)
        net = net.to(self._device).requires_grad_(False)
        size = 2 * sum(tensor.nbytes for tensor in net.parameters())  # the session has its own copy
        return TorchResident(Exported(session, net), self._device, None, size)

    def _session(self, net: nn.Module, entry: ModelEntry) -> onnxruntime.InferenceSession:
        if not registry.get(entry.architecture).exportable:
            raise ValueError("it is an algorithm, not a network")
        module, inputs, names = heavy_part(net, entry.task)
        content = to_onnx(module, inputs, names)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        session = onnxruntime.InferenceSession(content, options, providers=self._providers)
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
