"""pen-net: a pyramid-context encoder network for inpainting (Zeng et al., CVPR 2019).

Open in the paper and taken from its code: the hole is white; scores are no cosines, for only the keys have
their length taken off; a rebuilt feature replaces its level in the known region too; the deepest level
matches single values and has no fusion. Ours: `width` and `depth`; each sample matches by its own mask, as
there, but all samples at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.attention_transfer import AttentionTransfer, Fusion
from models.network import Network, SizeRule
from models.registry import architecture


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


@architecture(
    "pen-net",
    task="inpaint",
    paper="Learning Pyramid-Context Encoder Network for High-Quality Image Inpainting (CVPR 2019)",
)
class PenNet(Network):
    """Lists of layers run from the shallowest level, which has half the picture's sides, to the deepest."""

    sides = SizeRule(minimum=64, multiple=64)
    window = 256

    def __init__(self, width: int = 32, depth: int = 6) -> None:
        super().__init__()
        self.sides = SizeRule(minimum=2**depth, multiple=2**depth)
        self.window = max(256, 2**depth)
        rebuilt = depth - 1
        widths = [width * 2 ** min(level, depth - 2) for level in range(depth)]
        self.encoder = nn.ModuleList(
            nn.Conv2d(before, after, 3, 2, 1) for before, after in zip([4, *widths], widths, strict=False)
        )
        self.transfers = nn.ModuleList(
            AttentionTransfer(1 if i == rebuilt - 1 else 3) for i in range(rebuilt)
        )
        self.fusions = nn.ModuleList(Fusion(widths[i]) for i in range(rebuilt - 1))
        self.decoder = nn.ModuleList(
            nn.Conv2d(widths[-1] if i == rebuilt - 1 else 2 * widths[i + 1], widths[i], 3, padding=1)
            for i in range(rebuilt)
        )
        self.heads = nn.ModuleList(nn.Conv2d(2 * widths[i], 3, 1) for i in range(rebuilt))
        self.last = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1)
        )

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        return self.finished(self.decoded(image, mask)[0])

    def pyramid(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """The answer and the levels' side outputs in [0, 1], each of half the sides of the one before."""
        features = self.decoded(image, mask)
        sides = [(torch.tanh(head(x)) + 1) / 2 for head, x in zip(self.heads, features, strict=True)]
        return [self.finished(features[0]), *sides]

    def finished(self, features: Tensor) -> Tensor:
        return (torch.tanh(self.last(doubled(features))) + 1) / 2

    def decoded(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """Each level's decoded feature beside the one that attention rebuilt."""
        x = torch.cat([(2 * image - 1) * (1 - mask) + mask, mask], 1)
        levels: list[Tensor] = []
        for conv in self.encoder:
            x = conv(x)
            x = F.relu(x) if len(levels) == len(self.encoder) - 1 else F.leaky_relu(x, 0.2)
            levels.append(x)
        rebuilt = self.rebuilt(levels, mask)
        decoded: list[Tensor] = []
        for conv, feature in zip(reversed(self.decoder), reversed(rebuilt), strict=True):
            x = F.relu(conv(doubled(x)))
            x = torch.cat([x, feature], 1)
            decoded.insert(0, x)
        return decoded

    def rebuilt(self, levels: list[Tensor], mask: Tensor) -> list[Tensor]:
        answer: list[Tensor] = []
        deep = levels[-1]
        for i in reversed(range(len(levels) - 1)):
            deep = self.transfers[i](levels[i], deep, mask)
            if i < len(self.fusions):
                deep = self.fusions[i](deep)
            answer.insert(0, deep)
        return answer
