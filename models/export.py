"""Networks as ONNX, with batch, height and width left open.

Only what costs time is exported: an inpainter, or an upscaler's feature extractor. What depends on the scale
stays in torch, since it differs from tile to tile.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

SAMPLE = 2  # example batch: an axis of length one would be taken for a constant


class Features(nn.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net.features(image)


class Plain(nn.Module):
    """A network without its further arguments, which the exporter would take for inputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> Any:
        return self.net(*inputs)


def heavy_part(net: nn.Module, task: str) -> tuple[nn.Module, tuple[Tensor, ...], list[str]]:
    """What is worth exporting, an example of its inputs, and their names."""
    side = int(net.window)  # type: ignore[arg-type]
    image = torch.rand(SAMPLE, 3, side, side)
    if task == "upscale":
        return Features(net).eval(), (image,), ["image"]
    mask = torch.zeros(SAMPLE, 1, side, side)
    mask[:, :, : side // 4, : side // 4] = 1
    return net.eval(), (image, mask), ["image", "mask"]


def to_onnx(module: nn.Module, inputs: Sequence[Tensor], names: Sequence[str]) -> bytes:
    """The file's content; its output is called `answer`."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is the one that keeps all three axes free; torch calls it legacy.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Plain(module).train(module.training),  # the exporter gives it back, and its parts, as it was
            tuple(inputs),
            out,  # type: ignore[arg-type]
            input_names=list(names),
            output_names=["answer"],
            dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in (*names, "answer")},
            dynamo=False,
        )
    return out.getvalue()
