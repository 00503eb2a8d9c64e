"""region-norm: region normalisation for image inpainting (Yu et al., AAAI 2020).

EdgeConnect's inpainting generator without edges. Its encoder normalises hole and known part apart, its
residual blocks and its decoder by regions that they find. Open in the paper and taken from its code: the hole
is white and its mask no input, residual sums have no activation, pixels are shuffled where EdgeConnect has
transposed convolutions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.region_norm import FoundRegionNorm, GivenRegionNorm
from models.network import Network, SizeRule
from models.registry import architecture


class EncoderLayer(nn.Module):
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = GivenRegionNorm(conv.out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x), mask))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(2),
            nn.Conv2d(channels, channels, 3, dilation=2),
            FoundRegionNorm(),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            FoundRegionNorm(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def doubled(entering: int, leaving: int) -> list[nn.Module]:
    conv = nn.Conv2d(entering, 4 * leaving, 3, padding=1)
    return [conv, nn.PixelShuffle(2), FoundRegionNorm(), nn.ReLU()]


@architecture(
    "region-norm",
    task="inpaint",
    paper="Region Normalization for Image Inpainting (AAAI 2020)",
)
class RegionNormNet(Network):
    """Layers of the middle and of the decoder lie where the public code has them."""

    # The dilated residual layers reflect 2 on a map of a quarter of the side.
    sides = SizeRule(minimum=12, multiple=4)
    window = 256

    def __init__(self, width: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([
            EncoderLayer(nn.Conv2d(3, width, 7)),
            EncoderLayer(nn.Conv2d(width, 2 * width, 4, 2, 1)),
            EncoderLayer(nn.Conv2d(2 * width, 4 * width, 4, 2, 1)),
        ])  # fmt: skip
        self.middle = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            *doubled(4 * width, 2 * width),
            *doubled(2 * width, width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 3, 7),
        )

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        x = F.pad(image * (1 - mask) + mask, (3, 3, 3, 3), mode="reflect")
        for layer in self.encoder:
            x = layer(x, mask)
        return (torch.tanh(self.decoder(self.middle(x))) + 1) / 2
