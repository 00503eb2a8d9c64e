"""Networks as ONNX, with batch, height and width left open: an inpainter, an upscaler's feature extractor, or
a whole upscaler at a whole factor.

At any other factor rendering differs from tile to tile, and stays in torch.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 2  # small pixels to each side that an enlarged one is rendered from
SMALL = 32  # example side of networks that take any
SAMPLE = 2  # example batch: an axis of length one would be taken for a constant


class Features(nn.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net.features(image)


class Whole(nn.Module):
    """An upscaler at one whole factor.

    Rendering is affine in the features and the same at every small pixel: a convolution, which is found by
    rendering impulses.
    """

    def __init__(self, net: Any, factor: int) -> None:
        super().__init__()
        self.net, self.factor = net, factor
        if net.density != 1:
            if factor != net.density:
                raise ValueError(f"it enlarges by {net.density} and by nothing else")
            return
        self.deep = (
            net.upscale.channels
        )  # beyond the border these are nothing, the picture is its border pixel
        side = 2 * REACH + 1
        with torch.no_grad():
            channels = net.features(torch.zeros(1, 3, side, side)).shape[1]
            impulses = torch.eye(channels * side * side).view(-1, channels, side, side)
            region = (REACH * factor, REACH * factor, factor, factor)
            level = net.render(torch.zeros(1, channels, side, side), float(factor), region=region)
            answers = net.render(impulses, float(factor), region=region) - level
        # In pixel_shuffle's order: of each colour its rows, and their columns.
        self.kernel = nn.Parameter(answers.flatten(1).t().reshape(-1, channels, side, side).contiguous())
        self.level = nn.Parameter(level.flatten())

    def forward(self, image: Tensor) -> Tensor:
        features = self.net.features(image)
        if self.net.density != 1:
            return features
        around = (REACH,) * 4
        deep, picture = features[:, : self.deep], features[:, self.deep :]
        padded = F.pad(deep, around)
        if picture.shape[1]:
            padded = torch.cat([padded, F.pad(picture, around, mode="replicate")], 1)
        return F.pixel_shuffle(F.conv2d(padded, self.kernel, self.level), self.factor)


class Plain(nn.Module):
    """A network without its further arguments, which the exporter would take for inputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> Any:
        return self.net(*inputs)


def heavy_part(
    net: nn.Module, task: str, factor: int | None = None, sketch: bool = False
) -> tuple[nn.Module, tuple[Tensor, ...], list[str]]:
    """What is worth exporting, an example of its inputs, and their names.

    With a factor a whole upscaler, with a sketch an inpainter that is given one each time.
    """
    if task == "upscale":
        part = Features(net) if factor is None else Whole(net, factor)
        return part.eval(), (torch.rand(SAMPLE, 3, SMALL, SMALL),), ["image"]
    side = int(net.window)  # type: ignore[arg-type]
    image = torch.rand(SAMPLE, 3, side, side)
    mask = torch.zeros(SAMPLE, 1, side, side)
    mask[:, :, : side // 4, : side // 4] = 1
    if sketch:
        lines = torch.zeros_like(mask)
        lines[:, :, side // 8] = 1
        return net.eval(), (image, mask, lines), ["image", "mask", "sketch"]
    return net.eval(), (image, mask), ["image", "mask"]


def to_onnx(
    module: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], facts: Mapping[str, str] | None = None
) -> bytes:
    """The file's content, with these facts as its metadata; its output is called `answer`."""
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
    if not facts:
        return out.getvalue()
    import onnx  # where files are written, and not where networks are served

    written = onnx.load_model_from_string(out.getvalue())
    onnx.helper.set_model_props(written, dict(facts))
    return written.SerializeToString()
