"""Region normalisation (Yu et al., AAAI 2020): a hole and what is known, each by statistics of its own.

The public code takes them over the whole batch; here every sample has its own: company changes nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
THRESHOLD = 0.8


def region_norm(x: Tensor, region: Tensor) -> Tensor:
    """`x` normalised inside the regions of 1 and of 0 of the map (B, 1, h, w), each by itself.

    Outside its region a part counts as its region's mean, so that the deviation is that of the whole map, and
    the answer is scaled by the root of the region's share.
    """
    wide = x.float()
    total = torch.zeros_like(wide)
    for part in (region.float(), 1 - region.float()):
        share = part.mean((2, 3), keepdim=True)
        count = part.sum((2, 3), keepdim=True).clamp(min=1)
        mean = (wide * part).sum((2, 3), keepdim=True) / count
        apart = (wide - mean) * part
        variance = apart.square().mean((2, 3), keepdim=True)
        total = total + apart * (variance + EPSILON).rsqrt() * share.sqrt()
    return total.to(x.dtype)


class GivenRegionNorm(nn.Module):
    """With the hole for the region of 1. Both shifts are added everywhere, as the public weights want it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.foreground_gamma = nn.Parameter(torch.zeros(channels))
        self.foreground_beta = nn.Parameter(torch.zeros(channels))
        self.background_gamma = nn.Parameter(torch.zeros(channels))
        self.background_beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hole = F.interpolate(mask, x.shape[-2:], mode="nearest")
        inside, outside = self.foreground_gamma[:, None, None], self.background_gamma[:, None, None]
        scale = 1 + inside * hole + outside * (1 - hole)
        shift = (self.foreground_beta + self.background_beta)[:, None, None]
        return region_norm(x, hole) * scale + shift


class FoundRegionNorm(nn.Module):
    """With the region that a map of its own finds, which scales and shifts as well."""

    def __init__(self) -> None:
        super().__init__()
        self.found = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.gamma = nn.Conv2d(1, 1, 7, padding=3)
        self.beta = nn.Conv2d(1, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        looks = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        found = torch.sigmoid(self.found(looks))
        region = (found >= THRESHOLD).to(x.dtype)
        return region_norm(x, region) * (1 + self.gamma(found)) + self.beta(found)
