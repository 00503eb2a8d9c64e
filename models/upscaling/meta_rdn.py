"""meta-rdn: Meta-SR on a residual dense network (Hu et al., CVPR 2019; RDN: Zhang et al., CVPR 2018).

The paper leaves open, and we follow the public code: the mean colour is taken off and put back by 1x1
convolutions that were trained along; nothing outside the dense layers is activated; the window at a picture's
border is padded with zeros. The public weights count in 0..255: their importer folds that into the two 1x1
convolutions, so that this module knows [0, 1] alone.

Ours: `on_bicubic` makes the network predict what bicubic enlargement lacks, as meta-sr-small does, for
networks trained here; it shortens training, and beyond the trained scales the answer falls back to bicubic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.meta_upscale import MetaUpscale, OnBicubic
from models.layers.placement import Axis
from models.registry import architecture
from models.upscaling.upscaler import Upscaler

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K


class MeanShift(nn.Module):
    """A 1x1 convolution of colours, in the input's precision even where convolutions are computed in half."""

    def __init__(self, shift: Sequence[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(len(shift)))
        self.bias = nn.Parameter(torch.tensor(shift))

    def forward(self, image: Tensor) -> Tensor:
        mixed = (image[:, None] * self.weight[..., None, None]).sum(2)
        return mixed + self.bias[:, None, None]


class DenseBlock(nn.Module):
    """Layers that each see all before them, fused by a 1x1 convolution, added to the input."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + growth * number, growth, 3, padding=1) for number in range(layers)
        )
        self.fuse = nn.Conv2d(channels + growth * layers, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for layer in self.layers:
            seen = torch.cat([seen, F.relu(layer(seen))], 1)
        return x + self.fuse(seen)


@architecture(
    "meta-rdn",
    task="upscale",
    paper="Meta-SR: A Magnification-Arbitrary Network for Super-Resolution (CVPR 2019)",
)
class MetaRDN(Upscaler):
    """The defaults are RDN's configuration B; configuration A is depth 20, layers 6, growth 32."""

    def __init__(
        self,
        channels: int = 64,
        depth: int = 16,
        layers: int = 8,
        growth: int = 64,
        hidden: int = 256,
        on_bicubic: bool = False,
    ) -> None:
        super().__init__()
        self.on_bicubic = on_bicubic
        self.take_mean = MeanShift([-value for value in MEAN])
        self.give_mean = MeanShift(MEAN)
        self.shallow = nn.Conv2d(3, channels, 3, padding=1)
        self.enter = nn.Conv2d(channels, channels, 3, padding=1)
        self.receptive_field = (
            24  # of more than a hundred in theory: what lies beyond moves no answer by 1/255
        )
        self.blocks = nn.ModuleList(DenseBlock(channels, growth, layers) for _ in range(depth))
        self.fuse = nn.Conv2d(depth * channels, channels, 1)
        self.exit = nn.Conv2d(channels, channels, 3, padding=1)
        self.upscale = (OnBicubic if on_bicubic else MetaUpscale)(channels, hidden)

    def features(self, image: Tensor) -> Tensor:
        shallow = self.shallow(self.take_mean(image))
        x, found = self.enter(shallow), []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        deep = shallow + self.exit(self.fuse(torch.cat(found, 1)))
        return torch.cat([deep, image], 1) if self.on_bicubic else deep

    def decode(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        answer: Tensor = self.upscale(features, rows, columns, origin, inverse)
        return answer if self.on_bicubic else self.give_mean(answer)
