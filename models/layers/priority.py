"""Partial convolution that fills striking contours first (Wang et al., ICCV 2021: inpainting priority).

Plain partial convolution makes every window known that holds anything known. Here the rim of the hole is
filled where its priority q = (known in the window) * rho is at least `delta` of the largest on the rim; rho
tells how strongly an edge runs into the hole. Open in the paper: q's largest is taken over the rim of each
sample; rho is measured in the channels' mean, by Sobel, without gradients; where no edge runs into a hole
(every q is 0) its whole rim is filled, as it is with `delta` 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.constants import constant
from models.layers.partial import PartialConv

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


class PriorityConv(nn.Module):
    def __init__(self, entering: int, leaving: int, lowest: bool, delta: float) -> None:
        super().__init__()
        self.partial = PartialConv((entering,), leaving, bias=True)
        self.lowest, self.delta = lowest, delta

    def forward(self, features: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        answer, found = self.partial([features], [valid])
        if not self.delta:
            return answer, found
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            mean = features.float().mean(1, keepdim=True) * valid
            chosen = filled_first(mean, valid.float(), self.lowest, self.delta).to(found.dtype)
        return answer * chosen, chosen


def filled_first(picture: Tensor, valid: Tensor, lowest: bool, delta: float) -> Tensor:
    """The mask m' of the next layer, of a one-channel `picture` and the mask m, 1 where known."""
    around = F.avg_pool2d(F.pad(valid, (1, 1, 1, 1)), 3, 1) * 9
    rim = (1 - valid) * (around > 0.5)
    priority = around * striking(picture, valid, lowest) * rim
    enough = priority >= delta * priority.amax((2, 3), keepdim=True)
    return torch.where(enough, torch.maximum(valid, rim), valid)


def striking(picture: Tensor, valid: Tensor, lowest: bool) -> Tensor:
    """rho: along the isophote into the hole at the lowest resolution, across the residual at others."""
    down, across = sobel(valid)
    length = (down.square() + across.square()).sqrt().clamp(min=1e-6)
    down, across = down / length, across / length
    if lowest:
        picture_down, picture_across = sobel(picture)
        # The isophote is the gradient turned by a quarter; what the mask's own edge adds is along the normal.
        return (across * picture_down - down * picture_across).abs()
    residual_down, residual_across = sobel(residual(picture, valid))
    return (down * residual_down + across * residual_across).abs()


def residual(picture: Tensor, valid: Tensor) -> Tensor:
    """The picture without what survives halving; only known pixels are averaged."""
    size = (picture.shape[-2], picture.shape[-1])
    both = F.avg_pool2d(torch.cat([picture * valid, valid], 1), 2, ceil_mode=True)
    total, known = F.interpolate(both, size, mode="bilinear", align_corners=False).chunk(2, 1)
    return (picture - total / known.clamp(min=1e-3)) * valid


def sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences down and across, borders repeated."""
    kernel = constant(SOBEL, x)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel.T[None, None]), F.conv2d(padded, kernel[None, None])
