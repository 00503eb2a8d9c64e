"""migan: a simple GAN for mobile inpainting (Sargsyan et al., ICCV 2023), in the form that answers.

Open in the paper and taken from its code: two activations a layer, borders that darken (zeros lie beyond
them), noise that was drawn once and belongs to the weights, and a clamp. It takes one size alone. The root of
two that follows each activation is folded into the layer before by the importer. Ours: `resolution` and
`width` (at the largest size).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.binomial import doubled, halved
from models.network import Network, SizeRule
from models.registry import architecture

DEEPEST = 4
LIMIT = 256.0


def activated(x: Tensor) -> Tensor:
    """Half the time goes here: nothing is copied but where a gradient needs it."""
    x = F.leaky_relu(x, 0.2, inplace=True)
    return x.clamp(-LIMIT, LIMIT) if torch.is_grad_enabled() else x.clamp_(-LIMIT, LIMIT)


class Separable(nn.Module):
    """A convolution of each channel and one across them; half or twice the size in between."""

    noise: Tensor

    def __init__(
        self, entering: int, leaving: int, *, halving: bool = False, doubling: bool = False, noise: int = 0
    ) -> None:
        super().__init__()
        self.halving, self.doubling = halving, doubling
        self.deep = nn.Conv2d(entering, entering, 3, padding=1, groups=entering)
        self.across = nn.Conv2d(entering, leaving, 1, bias=False)
        if noise:
            self.register_buffer("noise", torch.zeros(noise, noise))
        self.noisy = bool(noise)

    def forward(self, x: Tensor) -> Tensor:
        x = activated(self.deep(x))
        x = self.across(halved(x) if self.halving else x)
        if self.doubling:
            x = doubled(x)
        return activated(x + self.noise.to(x.dtype) if self.noisy else x)


class Encoder(nn.Module):
    """Both the features of its size, which skip to the other side, and what goes on."""

    def __init__(self, size: int, entering: int, leaving: int) -> None:
        super().__init__()
        self.first = Separable(entering, entering)
        self.second = Separable(entering, leaving, halving=size > DEEPEST)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.first(x)
        return skip, self.second(skip)


class Decoder(nn.Module):
    def __init__(self, size: int, entering: int, leaving: int) -> None:
        super().__init__()
        noise = size if size > DEEPEST else 0
        self.first = Separable(entering, leaving, doubling=size > DEEPEST, noise=noise)
        self.second = Separable(leaving, leaving, noise=noise)
        self.picture = nn.Conv2d(leaving, 3, 1)

    def forward(self, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        x = self.second(self.first(x) + skip)
        return x, self.picture(x)


@architecture(
    "migan",
    task="inpaint",
    paper="MI-GAN: A Simple Baseline for Image Inpainting on Mobile Devices (ICCV 2023)",
)
class MiGan(Network):
    """Both lists of blocks go from the largest size to the smallest."""

    sides = SizeRule(minimum=512, multiple=512, maximum=512)
    window = 512

    def __init__(self, resolution: int = 512, width: int = 64, widest: int = 512) -> None:
        super().__init__()
        self.sides = SizeRule(resolution, resolution, resolution)
        self.window = resolution
        sizes = [resolution >> level for level in range((resolution // DEEPEST).bit_length())]
        widths = [min(width << level, widest) for level in range(len(sizes))]
        below = [*widths[1:], widths[-1]]
        blocks = list(zip(sizes, widths, below, strict=True))
        self.enter = nn.Conv2d(4, width, 1)
        self.encoder = nn.ModuleList(Encoder(size, here, under) for size, here, under in blocks)
        self.decoder = nn.ModuleList(Decoder(size, under, here) for size, here, under in blocks)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        known = 1 - mask
        x = activated(self.enter(torch.cat([known - 0.5, (2 * image - 1) * known], 1)))
        skips = []
        for encode in self.encoder:
            skip, x = encode(x)
            skips.append(skip)
        picture: Tensor | None = None
        for decode, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            x, drawn = decode(x, skip)
            picture = drawn if picture is None else doubled(picture) + drawn
        assert picture is not None
        return (picture + 1) / 2
