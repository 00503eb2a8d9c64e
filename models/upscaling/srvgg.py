"""srvgg: a plain chain of convolutions, Real-ESRGAN's light network (Wang et al., ICCVW 2021).

Ours: as of esrgan, and likewise the last sum is in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.registry import architecture
from models.upscaling.fixed import FixedFactor


@architecture(
    "srvgg",
    task="upscale",
    paper="Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (ICCVW 2021)",
)
class SrVgg(FixedFactor):
    """The defaults are general-x4v3; animevideo-v3 has 16 layers."""

    def __init__(self, channels: int = 64, layers: int = 32, factor: int = 4) -> None:
        super().__init__(factor)
        self.receptive_field = min(16, layers + 2)
        self.body = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.PReLU(channels))
        for _ in range(layers):
            self.body.extend((nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(channels)))
        self.leave = nn.Conv2d(channels, 3 * factor**2, 3, padding=1)

    def features(self, image: Tensor) -> Tensor:
        x = self.body(image)
        with torch.autocast(image.device.type, enabled=False):
            found = F.pixel_shuffle(self.leave(x.to(self.leave.weight.dtype)), self.density)
            return found + F.interpolate(image, scale_factor=float(self.density))
