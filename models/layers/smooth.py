"""Pictures made smooth: holes filled, details taken out, drawings freed of the grid that blocks leave."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.constants import constant

STEP = 4.0  # of a Gaussian's sigma: so large may pixels be made that hold it
LEVELS = 9  # halvings, and no fewer for small pictures: a graph that is exported must suit larger ones too


def smooth_fill(image: Tensor, mask: Tensor, unknown: float = 0.5) -> Tensor:
    """`image` (B, C, H, W) with its hole filled from the means of ever larger surroundings: pull, push.

    Where nothing at all is known it is `unknown`.
    """
    known = 1 - mask
    small, levels = image * known, []
    for _ in range(LEVELS):
        levels.append((small, known))
        share = F.avg_pool2d(known, 2, ceil_mode=True)
        small = F.avg_pool2d(small, 2, ceil_mode=True) / share.clamp(min=1e-4)
        known = (share > 0).to(image.dtype)
    count = known.sum((2, 3), keepdim=True)
    mean = torch.where(count > 0, (small * known).sum((2, 3), keepdim=True) / count.clamp(min=1), unknown)
    answer = torch.where(known > 0, small, mean)
    for small, known in reversed(levels):
        answer = F.interpolate(answer, small.shape[-2:], mode="bilinear", align_corners=False)
        answer = torch.where(known > 0, small, answer)
    return answer


def without_grid(x: Tensor) -> Tensor:
    """`x` smoothed by just what takes out whatever repeats every four pixels, or every two."""
    return along_both(x, constant((0.125, 0.25, 0.25, 0.25, 0.125), x.float()))


def blur(x: Tensor, sigma: float, reach: float = 3.0, border: str = "replicate") -> Tensor:
    """`x` (B, C, H, W) under a Gaussian, which is cut off at `reach` sigmas.

    A wide one is computed where a pixel is several: ten times as fast, and off by 0.003 of the range at most.
    """
    if (step := int(sigma / STEP)) > 1:
        height, width = x.shape[-2:]
        margin = step * math.ceil(reach * sigma / step)
        whole = F.pad(x, (margin, margin - width % -step, margin, margin - height % -step), mode=border)
        # Making it smaller and larger again blurs as well: what is left of its variance is the Gaussian's.
        rest = (sigma / step) ** 2 - (1 - 1 / step**2) / 12 - 1 / 6
        small = blur(F.avg_pool2d(whole, step), math.sqrt(rest), reach, border)
        large = F.interpolate(small, scale_factor=float(step), mode="bilinear", align_corners=False)
        return large[..., margin : margin + height, margin : margin + width]
    cut = int(reach * sigma + 0.5)
    away = torch.arange(-cut, cut + 1, device=x.device, dtype=torch.float32)
    line = torch.exp(-away.square() / (2 * sigma**2))
    return along_both(x, line / line.sum(), border)


def along_both(x: Tensor, line: Tensor, border: str = "replicate") -> Tensor:
    """Each channel of `x` weighted by `line` along its columns and along its rows."""
    channels = int(x.shape[1])  # a number, not a value traced: ONNX wants kernels of known size
    cut = len(line) // 2
    # Never in bfloat16: some processors' kernels for long lines of single channels all but stand still in it.
    with torch.autocast(x.device.type, enabled=False):
        wide = F.pad(x.to(torch.promote_types(x.dtype, torch.float32)), (cut,) * 4, mode=border)
        line = line.to(wide.dtype)
        down = F.conv2d(wide, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        both = F.conv2d(down, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return both.to(x.dtype)
