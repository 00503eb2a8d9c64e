"""lama: resolution-robust large mask inpainting with Fourier convolutions (Suvorov et al., WACV 2022).

Defaults build big-lama; 9 blocks are the paper's LaMa-Fourier. Open in the paper and taken from its code:
three quarters of the channels are global, every convolution reflects at the border, residual sums have no
activation, and no Fourier unit works on quarters of the map. Ours: half precision leaves the transforms in
float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.fourier import FastFourierConv, reflected
from models.network import Network, SizeRule
from models.registry import architecture

LEVELS = 3
WIDEST = 1024


class Strided(nn.Module):
    """A convolution with reflected borders, normalised, ReLU."""

    def __init__(self, entering: int, leaving: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, kernel, stride, bias=False)
        self.norm = nn.BatchNorm2d(leaving)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(reflected(x, self.conv.kernel_size[0] // 2))))


class Residual(nn.Module):
    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.first = FastFourierConv(channels, channels)
        self.second = FastFourierConv(channels, channels)

    def forward(self, local: Tensor, everywhere: Tensor) -> tuple[Tensor, Tensor]:
        new_local, new_global = self.second(*self.first(local, everywhere))
        return local + new_local, everywhere + new_global


class Grown(nn.Module):
    """Twice the side: a transposed convolution, normalised, ReLU."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(entering, leaving, 3, 2, padding=1, output_padding=1)
        self.norm = nn.BatchNorm2d(leaving)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


@architecture(
    "lama",
    task="inpaint",
    paper="Resolution-robust Large Mask Inpainting with Fourier Convolutions (WACV 2022)",
)
class Lama(Network):
    sides = SizeRule(minimum=2 * 2**LEVELS, multiple=2**LEVELS)  # one value has no neighbour to reflect
    window = 512

    def __init__(self, width: int = 64, blocks: int = 18, global_share: float = 0.75) -> None:
        super().__init__()
        widths = [min(WIDEST, width * 2**level) for level in range(LEVELS + 1)]
        everywhere = int(widths[-1] * global_share)
        halves = (widths[-1] - everywhere, everywhere)
        self.enter = Strided(4, width, 7, 1)
        self.down = nn.Sequential(*(Strided(widths[i], widths[i + 1], 3, 2) for i in range(LEVELS - 1)))
        self.split = FastFourierConv((widths[-2], 0), halves, stride=2)
        self.blocks = nn.ModuleList(Residual(halves) for _ in range(blocks))
        self.up = nn.Sequential(*(Grown(widths[i + 1], widths[i]) for i in reversed(range(LEVELS))))
        self.leave = nn.Conv2d(width, 3, 7)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        seen = torch.cat([image * (1 - mask), mask], 1)
        local, everywhere = self.split(self.down(self.enter(seen)))
        for block in self.blocks:
            local, everywhere = block(local, everywhere)
        grown = self.up(torch.cat([local, everywhere], 1))
        return torch.sigmoid(self.leave(reflected(grown, 3)))
