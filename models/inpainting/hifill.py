"""hifill: contextual residual aggregation for ultra high-resolution inpainting (Yi et al., CVPR 2020).

A coarse network at 256x256, whatever the picture's size, and one that refines with an attention which it
shares between its levels. What a large picture has beyond a small one, its residual, is put together in the
hole as the attention says (`large`): detail of the picture's own resolution at the cost of a small one. The
numbers are those of the first author's TensorFlow graph: its padding and resizing, patches that overlap and
are summed, heads that have gate and activation too. Its importer turns its colours round.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.gated import PaddedConv
from models.layers.patch_transfer import aggregated, attention, transferred
from models.layers.tensorflow_resize import bilinear, doubled
from models.network import Network, SizeRule
from models.registry import architecture

COARSE_SIDE = (256, 256)
CELL = 16  # pixels of the picture to an attention's key


class SharedGate(PaddedConv):
    """A gate of one channel, the last that the convolution answers with, for all the others."""

    def __init__(
        self, entering: int, leaving: int, kernel: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(entering, leaving + 1, kernel, stride, dilation)

    def activated(self, x: Tensor) -> Tensor:
        return F.elu(x[:, :-1]) * torch.sigmoid(x[:, -1:])


class PointGate(nn.Module):
    """A gate of its own for every channel, from the point beneath it alone."""

    def __init__(self, entering: int, leaving: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.value = PaddedConv(entering, leaving, 3, stride, dilation)
        self.gate = nn.Conv2d(entering, leaving, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.value(x)
        # Not the convolution's own stride: torch 2.13 on processors corrupts memory in its backward pass.
        beneath = x[..., :: self.stride, :: self.stride]
        return answer * torch.sigmoid(self.gate(beneath))


class Doubled(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layer(doubled(x))
        return answer


class Refinement(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        entering = (4, width, 2 * width)
        self.encoder = nn.ModuleList(
            nn.Sequential(PointGate(entering[level], width << level, stride=2), PointGate(wide, wide))
            for level, wide in enumerate((width, 2 * width, 4 * width))
        )
        deep = 4 * width
        self.dilated = nn.Sequential(*(PointGate(deep, deep, dilation=step) for step in (1, 2, 4, 8, 16)))
        self.attended = PointGate(deep, deep)
        self.joined = PointGate(2 * deep, deep)
        # From the deeper map to the shallower.
        self.transfers = nn.ModuleList(
            nn.Sequential(PointGate(wide, wide), PointGate(wide, wide, dilation=2))
            for wide in (2 * width, width)
        )
        self.decoder = nn.ModuleList([
            nn.Sequential(Doubled(PointGate(deep, 2 * width)), PointGate(2 * width, 2 * width)),
            nn.Sequential(Doubled(PointGate(4 * width, width)), PointGate(width, width)),
        ])  # fmt: skip
        self.leave = Doubled(PointGate(2 * width, 3))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        skips = []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        before = self.dilated(skips.pop())
        weights = attention(before, mask)
        after = self.attended(transferred(before, weights, 2))
        x = self.joined(torch.cat([before, after], 1))
        for index, (layer, transfer) in enumerate(zip(self.decoder, self.transfers, strict=True)):
            there = transfer(transferred(skips.pop(), weights, 4 << index))
            x = torch.cat([there, layer(x)], 1)
        return self.leave(x).clamp(-1, 1), weights


def coarse_stage(width: int) -> nn.Sequential:
    deep = 2 * width
    return nn.Sequential(
        SharedGate(4, width, kernel=5, stride=2),
        SharedGate(width, width),
        SharedGate(width, deep, stride=2),
        *(SharedGate(deep, deep) for _ in range(3)),
        *(SharedGate(deep, deep, dilation=step) for step in (1,) * 3 + (2,) * 5 + (4,) * 4 + (8,) * 2),
        *(SharedGate(deep, deep) for _ in range(3)),
        Doubled(SharedGate(deep, width)),
        SharedGate(width, width),
        Doubled(SharedGate(width, 3)),
    )


@architecture(
    "hifill",
    task="inpaint",
    paper="Contextual Residual Aggregation for Ultra High-Resolution Image Inpainting (CVPR 2020)",
)
class HiFill(Network):
    sides = SizeRule(minimum=CELL, multiple=CELL)
    window = 512

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.coarse = coarse_stage(width)
        self.refined = Refinement(width)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        return self.stages(image, mask)[-1]

    def stages(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> list[Tensor]:
        """The coarse and the refined picture, each on [0, 1]."""
        return self.attending(image, mask)[0]

    def attending(self, image: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """The stages, and the attention (B, cells, cells)."""
        seen = (2 * image - 1) * (1 - mask)
        small = bilinear(torch.cat([seen, mask], 1), COARSE_SIDE)
        coarse = bilinear(self.coarse(small).clamp(-1, 1), (image.shape[-2], image.shape[-1]))
        refined, weights = self.refined(torch.cat([seen + coarse * mask, mask], 1), mask)
        return [(coarse + 1) / 2, (refined + 1) / 2], weights

    def large(self, image: Tensor, mask: Tensor, multiple: int) -> Tensor:
        """The answer for one picture `multiple` times as large as the network works on, with its residuals.

        Outside the cells that have some of the hole it is the small answer, enlarged.
        """
        small = F.avg_pool2d(image, multiple)
        stages, weights = self.attending(small, F.max_pool2d(mask, multiple))
        size = (image.shape[-2], image.shape[-1])
        answer, cell = bilinear(stages[-1], size), CELL * multiple
        residual = (image - bilinear(small, size)) * (1 - mask)
        asked = F.max_pool2d(mask, cell)[0, 0].flatten().nonzero()[:, 0]
        patches = aggregated(residual.float(), weights[:, asked], cell)
        across = size[1] // cell
        for place, patch in zip(asked.tolist(), patches.unbind(1), strict=True):
            top, left = cell * (place // across), cell * (place % across)
            answer[..., top : top + cell, left : left + cell] += patch.to(answer.dtype)
        return answer
