"""aot-gan: aggregated contextual transformations for high-resolution inpainting (Zeng et al., TVCG 2022).

Open in the paper and taken from its code: the hole is white, the gate is computed from what enters a block
and normalised over the whole picture (unbiased deviation, stretched ten times), upsampling keeps the corners.
So a picture may not be tiled: every part sees all others. Ours: the gate's statistics are always in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network import Network, SizeRule
from models.registry import architecture


def reflecting(entering: int, leaving: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(entering, leaving, 3, padding=dilation, dilation=dilation, padding_mode="reflect")


class Block(nn.Module):
    """What several dilations see, fused, in place of what entered wherever the gate is open."""

    def __init__(self, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        share = channels // len(rates)
        self.branches = nn.ModuleList(reflecting(channels, share, rate) for rate in rates)
        self.fuse = reflecting(share * len(rates), channels)
        self.gate = reflecting(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.fuse(F.relu(torch.cat([branch(x) for branch in self.branches], 1)))
        gate = opened(self.gate(x).float()).to(x.dtype)
        return x * (1 - gate) + seen * gate


def opened(gate: Tensor) -> Tensor:
    """In 0 .. 1: steep about the channel's mean over the picture."""
    mean = gate.mean((2, 3), keepdim=True)
    deviation = gate.std((2, 3), keepdim=True) + 1e-9
    return torch.sigmoid(5 * (2 * (gate - mean) / deviation - 1))


class Doubled(nn.Module):
    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True))


@architecture(
    "aot-gan",
    task="inpaint",
    paper="Aggregated Contextual Transformations for High-Resolution Image Inpainting (TVCG 2022)",
)
class AotGan(Network):
    sides = SizeRule(minimum=36, multiple=4)
    window = 512

    def __init__(self, width: int = 64, blocks: int = 8, rates: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        # The widest dilation reflects on a map of a quarter of the side; the first layer reflects 3.
        self.sides = SizeRule(minimum=4 * (max(rates) + 1), multiple=4)
        self.encoder = nn.Sequential(
            nn.Conv2d(4, width, 7, padding=3, padding_mode="reflect"),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1),
            nn.ReLU(),
        )
        self.middle = nn.Sequential(*(Block(4 * width, rates) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            Doubled(4 * width, 2 * width),
            nn.ReLU(),
            Doubled(2 * width, width),
            nn.ReLU(),
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        seen = (2 * image - 1) * (1 - mask) + mask
        answer = self.decoder(self.middle(self.encoder(torch.cat([seen, mask], 1))))
        return (torch.tanh(answer) + 1) / 2
