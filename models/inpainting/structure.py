"""structure: a small network for the colours and outlines inside a hole, fast enough for a laptop. Ours.

The picture's 4x4 blocks become channels, so that everything runs at a quarter of the resolution; two more
halvings and dilated blocks at the bottom see the whole window. Gated convolutions (DeepFill v2) let it tell
known from unknown. The hole is filled smoothly at first, and what the network draws is added to that: it need
not learn colours. The sum is right on the whole and soft in detail; `guided-patchmatch` adds texture.
The grid that blocks leave is filtered out, in training too, so that what is lost by it is learnt again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.smooth import smooth_fill, without_grid
from models.network import Network, SizeRule
from models.registry import architecture

BLOCK = 4


class Residual(nn.Module):
    """Two convolutions, the second gated by a third part of the first's answer."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.leave = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.enter(F.silu(x)).chunk(2, 1)
        return x + self.scale * self.leave(F.silu(values) * torch.sigmoid(gates))


def halving(entering: int, leaving: int) -> nn.Module:
    return nn.Conv2d(entering, leaving, 3, 2, 1)


class Doubling(nn.Module):
    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.conv(x), scale_factor=2.0, mode="bilinear", align_corners=False)


class Trunk(nn.Module):
    """Draws `leaving` planes from `entering` ones of the same size, a multiple of 16."""

    def __init__(
        self, entering: int, leaving: int, widths: Sequence[int], blocks: int = 1, bottom: int = 1
    ) -> None:
        super().__init__()
        self.enter = nn.Conv2d(entering * BLOCK**2, widths[0], 3, padding=1)
        self.down1 = nn.Sequential(*(Residual(widths[0]) for _ in range(blocks)))
        self.halve1 = halving(widths[0], widths[1])
        self.down2 = nn.Sequential(*(Residual(widths[1]) for _ in range(blocks)))
        self.halve2 = halving(widths[1], widths[2])
        self.bottom = nn.Sequential(
            *(Residual(widths[2], dilation) for _ in range(bottom) for dilation in (1, 2, 4, 8))
        )
        self.double2 = Doubling(widths[2], widths[1])
        self.up2 = nn.Sequential(*(Residual(widths[1]) for _ in range(blocks)))
        self.double1 = Doubling(widths[1], widths[0])
        self.up1 = nn.Sequential(*(Residual(widths[0]) for _ in range(blocks)))
        self.leave = nn.Conv2d(widths[0], leaving * BLOCK**2, 3, padding=1)

    def planes(self, seen: Tensor) -> Tensor:
        first = self.down1(self.enter(F.pixel_unshuffle(seen, BLOCK)))
        second = self.down2(self.halve1(first))
        deep = self.bottom(self.halve2(second))
        second = self.up2(second + self.double2(deep))
        first = self.up1(first + self.double1(second))
        return without_grid(F.pixel_shuffle(self.leave(F.silu(first)), BLOCK))


@architecture(
    "structure",
    task="inpaint",
    paper="none; gated convolution is from DeepFill v2 (ICCV 2019)",
    sketch=True,
)
class Structure(Network, Trunk):
    sides = SizeRule(minimum=16, multiple=16)
    window = 512

    def __init__(self, widths: Sequence[int] = (48, 96, 128), blocks: int = 2, bottom: int = 1) -> None:
        super().__init__(3 + 1 + 1, 3, widths, blocks, bottom)  # colours, mask, sketch

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        smooth = 2 * smooth_fill(image, mask) - 1
        lines = torch.zeros_like(mask) if sketch is None else sketch * mask
        drawn = self.planes(torch.cat([smooth, mask, lines], 1))
        return (smooth + drawn + 1) / 2
