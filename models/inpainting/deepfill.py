"""What DeepFill v1 and v2 share: a coarse network, then a convolution and an attention branch that refine.

Both papers' networks are the same graph of layers; they differ in the layer (plain or gated), in its width
and in what the second stage sees.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.contextual_attention import ContextualAttention
from models.layers.gated import PaddedConv

# (entering channels, leaving channels, **options) -> a layer with its activation
MakeLayer = Callable[..., PaddedConv]


class Doubled(nn.Module):
    """Nearest upsampling by 2 before a layer."""

    def __init__(self, layer: PaddedConv) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer.doubled(x)


def dilated(layer: MakeLayer, width: int) -> list[nn.Module]:
    return [layer(4 * width, 4 * width, dilation=step) for step in (2, 4, 8, 16)]


def decoder(layer: MakeLayer, head: MakeLayer, width: int) -> list[nn.Module]:
    return [
        Doubled(layer(4 * width, 2 * width)),
        layer(2 * width, 2 * width),
        Doubled(layer(2 * width, width)),
        layer(width, width // 2),
        head(width // 2, 3),
    ]


def coarse_stage(layer: MakeLayer, head: MakeLayer, entering: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        layer(entering, width, kernel=5),
        layer(width, 2 * width, stride=2),
        layer(2 * width, 2 * width),
        layer(2 * width, 4 * width, stride=2),
        layer(4 * width, 4 * width),
        layer(4 * width, 4 * width),
        *dilated(layer, width),
        layer(4 * width, 4 * width),
        layer(4 * width, 4 * width),
        *decoder(layer, head, width),
    )


class RefinementStage(nn.Module):
    def __init__(
        self, layer: MakeLayer, head: MakeLayer, entering: int, width: int, attention: ContextualAttention
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            layer(entering, width, kernel=5),
            layer(width, width, stride=2),
            layer(width, 2 * width),
            layer(2 * width, 2 * width, stride=2),
            layer(2 * width, 4 * width),
            layer(4 * width, 4 * width),
            *dilated(layer, width),
        )
        self.before = nn.Sequential(
            layer(entering, width, kernel=5),
            layer(width, width, stride=2),
            layer(width, 2 * width),
            layer(2 * width, 4 * width, stride=2),
            layer(4 * width, 4 * width),
            layer(4 * width, 4 * width, activation=F.relu),
        )
        self.attention = attention
        self.after = nn.Sequential(layer(4 * width, 4 * width), layer(4 * width, 4 * width))
        self.merged = nn.Sequential(
            layer(8 * width, 4 * width), layer(4 * width, 4 * width), *decoder(layer, head, width)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        attended = self.after(self.attention(self.before(x), mask))
        return self.merged(torch.cat([self.convolutions(x), attended], 1))
