"""What a GPU's rounding does to the answers of the installed models, told by a processor.

What goes into convolutions (and products, where they are rounded) is rounded as the hardware does it; sums
stay those of float32. `python -m tests.models.rounding` prints the table of docs/networks.md.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from models import manifest, registry

CONVOLUTIONS = {F.conv2d, torch.conv2d, F.conv_transpose2d, torch.conv_transpose2d}
PRODUCTS = {torch.matmul, torch.bmm, torch.Tensor.matmul, torch.Tensor.__matmul__, F.linear, torch.einsum}


def to_tf32(x: Tensor) -> Tensor:
    """Ten bits of mantissa, the nearest, ties to even."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


class Tf32(TorchFunctionMode):
    """As cuDNN convolves with TF32 allowed; products are not rounded, as torch does not unless it is told."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in CONVOLUTIONS:
            args = [to_tf32(x) if isinstance(x, Tensor) and x.dim() > 1 else x for x in args]
        return func(*args, **(kwargs or {}))


class Half(TorchFunctionMode):
    """As autocast computes: in half precision but where the code has turned it off."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind = kind

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in CONVOLUTIONS | PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **(kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            return self.rounded(func(*map(self.rounded, args), **(kwargs or {})))

    def rounded(self, x: Any) -> Any:
        return x.to(self.kind).float() if isinstance(x, Tensor) and x.is_floating_point() else x


def rounding(name: str) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    if name == "float32":
        return nullcontext(), nullcontext()
    if name == "tf32":
        return nullcontext(), Tf32()
    kind = getattr(torch, name)
    return torch.autocast("cpu", dtype=kind), Half(kind)


@torch.inference_mode()
def levels(net: Any, fills: bool, side: int, name: str) -> Tensor:
    """What is made up, in levels of 255, of a picture of smooth colours and grain."""
    generator = torch.Generator().manual_seed(1)
    image = F.interpolate(
        torch.rand(1, 3, side // 10, side // 10, generator=generator), (side, side), mode="bicubic"
    )
    image = (image + 0.05 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    hole = torch.zeros(1, 1, side, side)
    hole[..., side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = 1
    cast, rounds = rounding(name)
    with cast, rounds:
        answer = net(image, hole) if fills else net(image, 2.0)
    answer = answer.float().clamp(0, 1) * 255
    return answer[(hole > 0).expand_as(answer)] if fills else answer.flatten()


def apart(model: str, side: int, name: str) -> tuple[float, float, float]:
    """Mean and largest difference in levels, and the share of bytes that differ."""
    entry = manifest.installed()[model]
    net, fills = manifest.load(model), registry.get(entry.architecture).task == "inpaint"
    exact, rounded = (levels(net, fills, side, each) for each in ("float32", name))
    off = (rounded - exact).abs()
    return float(off.mean()), float(off.max()), float((rounded.round() != exact.round()).float().mean())


if __name__ == "__main__":
    print("| model | " + " | ".join(("TF32", "float16", "bfloat16")) + " |\n| --- | --- | --- | --- |")
    for model in manifest.installed():
        cells = [apart(model, 256, name) for name in ("tf32", "float16", "bfloat16")]
        print(
            f"| {model} | " + " | ".join(f"{a:.3f} / {b:.2f} / {c:.1%}" for a, b, c in cells) + " |",
            flush=True,
        )
