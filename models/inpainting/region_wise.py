"""region-wise: region-wise generative adversarial inpainting (Ma et al., 2019).

Two networks alike, the second on what the first made. The first's decoder keeps the hole's features apart
from those of the known part, which alone see the encoder's. Open in the paper and taken from its code: every
convolution reflects at the border, the last one has its ELU too before its answer is clipped, and masks are
taken straight from the picture's, with aligned corners. Its mask is 1 where the picture is known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.contextual_attention import pick
from models.layers.fourier import reflected
from models.network import Network, SizeRule
from models.registry import architecture


class Layer(nn.Module):
    """A convolution with reflected borders, and ELU; `doubled` makes its pixels four before it."""

    def __init__(
        self,
        entering: int,
        leaving: int,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        doubled: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, kernel, stride, dilation=dilation)
        self.reach, self.doubled = dilation * (kernel // 2), doubled

    def forward(self, x: Tensor) -> Tensor:
        if self.doubled:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.elu(self.conv(reflected(x, self.reach)))


class Encoder(nn.Module):
    """Down to a quarter of the side, dilated, and fused again with the layers before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([
            Layer(4, width, kernel=5),
            Layer(width, 2 * width, stride=2),
            Layer(2 * width, 2 * width),
            Layer(2 * width, 4 * width, stride=2),
            Layer(4 * width, 4 * width),
            Layer(4 * width, 4 * width),
        ])  # fmt: skip
        self.dilated = nn.Sequential(*(Layer(4 * width, 4 * width, dilation=step) for step in (2, 4, 8, 16)))
        self.fused = nn.ModuleList(Layer(8 * width, 4 * width) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The deepest feature, and what the first four layers made."""
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        x = self.dilated(x)
        for layer in self.fused:
            x = layer(torch.cat([x, skips.pop()], 1))
        return x, skips


class RegionDecoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 4 * width
        self.regions = nn.ModuleList([
            Layer(3 * wide, wide, doubled=True),
            Layer(2 * wide + 2 * width, wide),
            Layer(2 * wide + 2 * width, wide, doubled=True),
        ])  # fmt: skip
        self.last = nn.Sequential(Layer(wide, width), Layer(width, width // 2), Layer(width // 2, 3))

    def forward(self, x: Tensor, skips: list[Tensor], known: Tensor) -> Tensor:
        for layer, skip in zip(self.regions, skips[:0:-1], strict=True):
            there = pick(known, (x.shape[-2], x.shape[-1]))
            x = layer(torch.cat([x * there, skip * there, x * (1 - there)], 1))
        return self.last(x).clamp(-1, 1)


class Decoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fused = nn.ModuleList([
            Layer(8 * width, 2 * width, doubled=True),
            Layer(4 * width, 2 * width),
            Layer(4 * width, width, doubled=True),
            Layer(2 * width, width // 2),
        ])  # fmt: skip
        self.last = Layer(width // 2, 3)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for layer, skip in zip(self.fused, reversed(skips), strict=True):
            x = layer(torch.cat([x, skip], 1))
        return self.last(x).clamp(-1, 1)


@architecture(
    "region-wise",
    task="inpaint",
    paper="Region-wise Generative Adversarial Image Inpainting for Large Missing Areas (2019)",
)
class RegionWise(Network):
    # The widest dilation reflects 16 on a map of a quarter of the side.
    sides = SizeRule(minimum=68, multiple=4)
    window = 256

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(Encoder(width) for _ in range(2))
        self.coarse = RegionDecoder(width)
        self.fine = Decoder(width)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        return self.stages(image, mask)[-1]

    def stages(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> list[Tensor]:
        """The coarse and the refined picture, each on [0, 1]."""
        known = 1 - mask
        seen = (2 * image - 1) * known
        coarse = self.coarse(*self.encoders[0](torch.cat([seen, known], 1)), known)
        pasted = seen + coarse * mask
        fine = self.fine(*self.encoders[1](torch.cat([pasted, known], 1)))
        return [(coarse + 1) / 2, (fine + 1) / 2]
