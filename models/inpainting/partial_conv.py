"""partial-conv: image inpainting for irregular holes using partial convolutions (Liu et al., ECCV 2018).

A U-Net whose every convolution is partial. As in the public re-implementation: batch normalisation everywhere
but at both ends, nearest upsampling of features and masks, and 7 levels by default (the paper's 8 need sides
divisible by 256). Its division by the plain sum of the mask window is the paper's ratio with smaller weights;
the importer scales them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.colours import from_imagenet, to_imagenet
from models.layers.partial import PartialConv
from models.network import Network, SizeRule
from models.registry import architecture


class Block(nn.Module):
    """A partial convolution, its normalisation and its activation."""

    def __init__(self, conv: PartialConv, norm: bool, slope: float) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.conv.out_channels) if norm else None
        self.slope = slope  # 1: no activation

    def forward(self, features: list[Tensor], valid: list[Tensor]) -> tuple[Tensor, Tensor]:
        answer, found = self.conv(features, valid)
        if self.norm is not None:
            answer = self.norm(answer)
        return F.leaky_relu(answer, self.slope) if self.slope != 1 else answer, found


@architecture(
    "partial-conv",
    task="inpaint",
    paper="Image Inpainting for Irregular Holes Using Partial Convolutions (ECCV 2018)",
)
class PartialConvNet(Network):
    sides = SizeRule(minimum=128, multiple=128)
    window = 512

    def __init__(self, width: int = 64, levels: int = 7) -> None:
        super().__init__()
        self.sides = SizeRule(minimum=2**levels, multiple=2**levels)
        self.window = max(512, 2**levels)
        widths = [3, *(width * min(8, 2**level) for level in range(levels))]
        kernels = [7, 5, 5] + [3] * levels
        self.encoder = nn.ModuleList(
            Block(PartialConv([widths[i]], widths[i + 1], kernels[i], stride=2), norm=i > 0, slope=0.0)
            for i in range(levels)
        )
        # From the deepest level up: features of that level beside the encoder's of the one above.
        self.decoder = nn.ModuleList(
            Block(
                PartialConv([widths[i + 1], widths[i]], widths[i], bias=i == 0),
                norm=i > 0,
                slope=0.2 if i else 1.0,
            )
            for i in reversed(range(levels))
        )

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        known = 1 - mask
        skips = [(to_imagenet(image) * known, known)]
        for block in self.encoder:
            skips.append(block([skips[-1][0]], [skips[-1][1]]))
        features, valid = skips.pop()
        for block in self.decoder:
            skip, skip_valid = skips.pop()
            grown = F.interpolate(torch.cat([features, valid], 1), scale_factor=2.0, mode="nearest")
            features, valid = block([grown[:, :-1], skip], [grown[:, -1:], skip_valid])
        return from_imagenet(features)
