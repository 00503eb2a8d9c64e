"""StyleGAN's resampling by two: the filter 1 3 3 1 along both axes, with zeros beyond the border."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = (1.0, 3.0, 3.0, 1.0)


def doubled(x: Tensor) -> Tensor:
    """A quarter of the farther and three of the nearer neighbour: that is bilinear, but for the border."""
    grown = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2.0, mode="bilinear", align_corners=False)
    return grown[..., 2:-2, 2:-2]


def halved(x: Tensor) -> Tensor:
    channels = int(x.shape[1])  # a whole number to an export, too
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device) / sum(TAPS)
    kernel = (taps[:, None] * taps).expand(channels, 1, len(TAPS), len(TAPS))
    return F.conv2d(x, kernel, stride=2, padding=1, groups=channels)
