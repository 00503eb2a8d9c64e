"""madf: mask-aware dynamic filtering and point-wise normalisation (Zhu et al., TIP 2021).

An encoder whose filters depend on the mask at every point, then decoders that run side by side from the
bottom: the first recovers, each of the others refines the one before. Open in the paper and taken from its
code: the picture is normalised as for ImageNet and zero in the hole, no activation ends any decoder, and the
encoder's batch normalisation is never applied (the importer drops it). Ours: `width`, `levels`, `hidden`
(channels of the mask branch), `refinements` (0: the recovery is the answer), and the dynamic filters as
mixtures of convolutions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.colours import from_imagenet, to_imagenet
from models.layers.dynamic import DynamicConv
from models.layers.pointwise_norm import PointwiseNorm
from models.network import Network, SizeRule
from models.registry import architecture

SEEN = 6  # the known picture, and what is valid of each colour


def up(entering: int, leaving: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(entering, leaving, 4, 2, 1)


class EncoderLevel(nn.Module):
    """Halves the features and the mask's own, which choose the features' filters."""

    def __init__(self, level: int, entering: int, leaving: int, hidden: int) -> None:
        super().__init__()
        kernel = (7, 5)[level] if level < 2 else 3
        self.mask_conv = nn.Conv2d(hidden if level else 3, hidden, kernel, 2, kernel // 2)
        self.dynamic = DynamicConv(entering, leaving, kernel, hidden)
        self.skip = nn.Conv2d(leaving, 4 * leaving, 1)

    def forward(self, x: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixture = F.relu(self.mask_conv(mixture))
        x = F.relu(self.dynamic(x, mixture))
        return x, mixture, F.relu(self.skip(x))


class Recovery(nn.Module):
    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.up = up(entering, leaving)
        self.norm = nn.BatchNorm2d(leaving)
        self.fuse = nn.Conv2d(2 * leaving, leaving, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm(self.up(x)), 0.2)
        return F.relu(self.fuse(torch.cat([skip, x], 1)))


class Refinement(nn.Module):
    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.up = up(entering, leaving)
        self.norm = PointwiseNorm(leaving, leaving)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.up(x), condition), 0.2)


class LastRecovery(nn.Module):
    def __init__(self, entering: int) -> None:
        super().__init__()
        self.up = up(entering, 3)
        self.fuse = nn.Conv2d(SEEN + 3, 3, 3, padding=1)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        return self.fuse(torch.cat([seen, self.up(x)], 1))


class Head(nn.Module):
    """A refined picture from the decoder's feature, the pictures before it, and what the network saw."""

    def __init__(self, entering: int, before: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering + 3 * before + SEEN, 3, 1)

    def forward(self, x: Tensor, before: list[Tensor], seen: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.conv(torch.cat([x, *before, seen], 1))


@architecture(
    "madf",
    task="inpaint",
    paper="Image Inpainting by End-to-End Cascaded Refinement with Mask Awareness (TIP 2021)",
)
class Madf(Network):
    """Decoders are lists from the deepest level up."""

    sides = SizeRule(minimum=128, multiple=128)
    window = 512

    def __init__(self, width: int = 16, levels: int = 7, hidden: int = 16, refinements: int = 2) -> None:
        super().__init__()
        self.sides = SizeRule(minimum=2**levels, multiple=2**levels)
        self.window = max(512, 2**levels)
        widths = [width * min(8, 2**level) for level in range(levels)]
        self.encoder = nn.ModuleList(
            EncoderLevel(level, widths[level - 1] if level else SEEN, widths[level], hidden)
            for level in range(levels)
        )
        steps = [(4 * widths[level], 4 * widths[level - 1]) for level in reversed(range(1, levels))]
        self.recovery = nn.ModuleList(Recovery(*step) for step in steps)
        self.last_recovery = LastRecovery(4 * width)
        self.refinements = nn.ModuleList(
            nn.ModuleList(Refinement(*step) for step in steps) for _ in range(refinements)
        )
        self.heads = nn.ModuleList(Head(4 * width, 1 + i) for i in range(refinements))

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        return self.stages(image, mask)[-1]

    def stages(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> list[Tensor]:
        """The recovered and the refined pictures, each on [0, 1]."""
        valid = (1 - mask).expand(-1, 3, -1, -1)
        seen = torch.cat([to_imagenet(image) * valid, valid], 1)
        *skips, bottom = self.encoded(seen, valid)
        features = [bottom] * (1 + len(self.refinements))
        for step, recover in enumerate(self.recovery):
            features[0] = recover(features[0], skips.pop())
            for i, refine in enumerate(self.refinements, start=1):
                features[i] = refine[step](features[i], features[i - 1])  # type: ignore[index]
        pictures = [self.last_recovery(features[0], seen)]
        for head, feature in zip(self.heads, features[1:], strict=True):
            pictures.append(head(feature, pictures, seen))
        return [from_imagenet(picture) for picture in pictures]

    def encoded(self, x: Tensor, mixture: Tensor) -> list[Tensor]:
        """What each level hands to the decoders, the deepest last."""
        skips = []
        for level in self.encoder:
            x, mixture, skip = level(x, mixture)
            skips.append(skip)
        return skips
