"""meta-sr-small: the Meta-Upscale decoder (Hu et al., CVPR 2019) on a backbone made for CPUs.

Ours, not the paper's: the backbone is a chain of EDSR's residual blocks (two 3x3 convolutions, no
normalisation) with one long skip; the decoder predicts only what bicubic enlargement lacks, with a narrow
prediction network. The small picture travels as the last three channels of the features, so that rendering
needs nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.meta_upscale import OnBicubic
from models.layers.placement import Axis
from models.registry import architecture
from models.upscaling.blocks import ResidualBlock
from models.upscaling.upscaler import Upscaler


@architecture(
    "meta-sr-small",
    task="upscale",
    paper="Meta-SR: A Magnification-Arbitrary Network for Super-Resolution (CVPR 2019), on our backbone",
)
class MetaSRSmall(Upscaler):
    def __init__(self, channels: int = 64, blocks: int = 16, hidden: int = 48) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, channels, 3, padding=1)
        self.upscale = OnBicubic(channels, hidden)
        for block in self.body:
            # Each block starts as nothing, so that any depth trains from the first step.
            nn.init.zeros_(block.second.weight)  # type: ignore[arg-type, union-attr]
            nn.init.zeros_(block.second.bias)  # type: ignore[arg-type, union-attr]
        # In theory 35 pixels; what lies beyond 12 of them moves an answer by 0.01/255 at most.
        self.receptive_field = blocks // 2 + 4

    def features(self, image: Tensor) -> Tensor:
        head = self.head(image - 0.5)
        return torch.cat([head + self.tail(self.body(head)), image], 1)

    def decode(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        return self.upscale(features, rows, columns, origin, inverse)
