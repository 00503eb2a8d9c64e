"""pmr: parallel multi-resolution fusion for inpainting (Wang et al., ICCV 2021).

The paper's: four branches that keep their resolutions to the end, partial convolutions with inpainting
priority, mask-aware fusion after each of the first five stages (features weighted by their masks, masks
united), attention-guided fusion after the last (the hole attends to known places at the lowest resolution,
and the same map rebuilds every branch). Its widths, blocks, normalisation, attention's features and losses
are not known to us.

Ours: the branches begin at 1/`shrink` of the picture, for CPUs (1 is the paper's), and what they draw is
added to a smooth fill, without the grid that blocks of 2 or 4 pixels leave; gated by nothing, no
normalisation, residual sums scaled by a learnt factor; a 1x1 convolution before a branch is enlarged, strided
3x3 ones where it is made smaller; attention compares unit features of all branches together; the last stage
has no priority, so that no place stays unfilled for want of an edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.partial import PartialConv
from models.layers.priority import PriorityConv
from models.layers.smooth import smooth_fill, without_grid
from models.network import Network, SizeRule
from models.registry import architecture

SHARPNESS = 10.0  # of the attention's softmax over cosines

Branches = list[Tensor]  # from the highest resolution to the lowest


class Block(nn.Module):
    """Two priority convolutions beside what enters; the mask grows by a rim in each."""

    def __init__(self, channels: int, lowest: bool, delta: float) -> None:
        super().__init__()
        self.first = PriorityConv(channels, channels, lowest, delta)
        self.second = PriorityConv(channels, channels, lowest, delta)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.5))

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        inner, known = self.first(F.silu(x), valid)
        inner, known = self.second(F.silu(inner), known)
        return x + self.scale * inner, known


class MaskAwareFusion(nn.Module):
    """Every branch from all branches: the mean of those that know a place."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(path(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

    def forward(self, features: Branches, valid: Branches) -> tuple[Branches, Branches]:
        fused, masks = [], []
        for target, paths in enumerate(self.paths):
            total, count = torch.zeros_like(features[target]), torch.zeros_like(valid[target])
            assert isinstance(paths, nn.ModuleList)
            for source, convert in enumerate(paths):
                mask = moved(valid[source], source, target)
                part = convert(features[source])
                if source > target:
                    part = F.interpolate(part, scale_factor=2.0 ** (source - target), mode="nearest")
                total, count = total + part * mask, count + mask
            fused.append(total / count.clamp(min=1))
            masks.append((count > 0).to(count.dtype))
        return fused, masks


def path(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """What brings the source's features to the target's width, and to its size if that is the smaller one."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Conv2d(widths[source], widths[target], 1)
    steps: list[nn.Module] = []
    for step in range(target - source):
        last = step == target - source - 1
        steps += [nn.Conv2d(widths[source], widths[target if last else source], 3, 2, 1), nn.SiLU()]
    return nn.Sequential(*steps[:-1])


def moved(valid: Tensor, source: int, target: int) -> Tensor:
    """A mask at another branch's size: known where anything under it is."""
    if source > target:
        return F.interpolate(valid, scale_factor=2.0 ** (source - target), mode="nearest")
    return F.max_pool2d(valid, 2 ** (target - source)) if source < target else valid


class AttentionGuidedFusion(nn.Module):
    """One map of attention, from missing to known places of the lowest resolution, rebuilds all branches."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.compare = nn.Conv2d(sum(widths), channels, 1)
        self.merge = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in widths)

    def forward(self, features: Branches, missing: Tensor) -> Branches:
        """`missing` is the hole at the lowest resolution: 1 where anything is missing."""
        factors = [2**level for level in reversed(range(len(features)))]
        small = [F.avg_pool2d(x, factor) for x, factor in zip(features, factors, strict=True)]
        weights = self.weights(self.compare(torch.cat(small, 1)), missing)
        answers = []
        for x, factor, merge in zip(features, factors, self.merge, strict=True):
            cells = F.pixel_unshuffle(x, factor)
            rebuilt = (cells.flatten(2) @ weights.transpose(1, 2)).view_as(cells)
            rebuilt = F.pixel_shuffle(rebuilt, factor)
            hole = F.interpolate(missing, scale_factor=float(factor), mode="nearest")
            answers.append(x + merge(torch.cat([x, rebuilt], 1)) * hole)
        return answers

    @staticmethod
    def weights(features: Tensor, missing: Tensor) -> Tensor:
        """(B, places, places): rows sum to one over known places; to zero if there are none."""
        with torch.autocast(features.device.type, enabled=False):
            unit = F.normalize(features.float().flatten(2), dim=1)
            known = 1 - missing.float().flatten(2)
            scores = SHARPNESS * (unit.transpose(1, 2) @ unit) - 1e4 * (1 - known)
            answer = scores.softmax(2) * known
        return answer.to(features.dtype)


@architecture(
    "pmr",
    task="inpaint",
    paper="Parallel Multi-Resolution Fusion Network for Image Inpainting (ICCV 2021)",
)
class PMR(Network):
    sides = SizeRule(minimum=16, multiple=16)
    window = 512

    def __init__(
        self,
        widths: Sequence[int] = (32, 48, 64, 88),
        blocks: int = 1,
        stages: int = 6,
        delta: float = 0.5,
        shrink: int = 2,
        attended: int = 64,
    ) -> None:
        super().__init__()
        levels = len(widths)
        self.shrink = shrink
        side = shrink * 2 ** (levels - 1)
        self.sides = SizeRule(minimum=side, multiple=side)
        self.enter = nn.ModuleList(
            PartialConv(
                (3,), width, 2 * shrink + 1 if level == 0 else 3, shrink if level == 0 else 1, bias=True
            )
            for level, width in enumerate(widths)
        )
        self.branches = nn.ModuleList(
            nn.ModuleList(
                nn.ModuleList(
                    Block(width, level == levels - 1, delta if stage < stages - 1 else 0.0)
                    for _ in range(blocks)
                )
                for level, width in enumerate(widths)
            )
            for stage in range(stages)
        )
        self.fusions = nn.ModuleList(MaskAwareFusion(widths) for _ in range(stages - 1))
        self.attention = AttentionGuidedFusion(widths, attended)
        self.gather = nn.Conv2d(sum(widths), 2 * widths[0], 1)
        self.leave = nn.Conv2d(2 * widths[0], 3 * shrink**2, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        valid = 1 - mask
        features, masks = self.entered((2 * image - 1) * valid, valid)
        for number, stage in enumerate(self.branches):
            assert isinstance(stage, nn.ModuleList)
            for level, blocks in enumerate(stage):
                assert isinstance(blocks, nn.ModuleList)
                for block in blocks:
                    features[level], masks[level] = block(features[level], masks[level])
            if number < len(self.fusions):
                features, masks = self.fusions[number](features, masks)
        lowest = F.max_pool2d(mask, self.multiple)
        features = self.attention(features, lowest)
        size = features[0].shape[-2:]
        large = [features[0]] + [
            F.interpolate(x, size, mode="bilinear", align_corners=False) for x in features[1:]
        ]
        answer = self.leave(F.silu(self.gather(torch.cat(large, 1))))
        drawn = F.pixel_shuffle(answer, self.shrink)
        if self.shrink > 1:
            drawn = without_grid(drawn)
        return smooth_fill(image, mask) + drawn / 2

    def entered(self, known: Tensor, valid: Tensor) -> tuple[Branches, Branches]:
        """Each branch's first features and mask; smaller pictures are means of known pixels."""
        features, masks = [], []
        for level, enter in enumerate(self.enter):
            picture, mask = known, valid
            if level:
                factor = self.shrink * 2**level
                share = F.avg_pool2d(valid, factor)
                picture = F.avg_pool2d(known, factor) / share.clamp(min=1 / factor**2)
                mask = (share > 0).to(valid.dtype)
            entered, found = enter([picture], [mask])
            features.append(entered)
            masks.append(found)
        return features, masks
