"""mat: mask-aware transformer for large hole image inpainting (Li et al., CVPR 2022).

A first stage attends in windows among what is known, a second one refines as Co-Mod-GAN draws. Open in the
paper and taken from its code: a partial convolution's ratio multiplies after the activation, and is more than
1 at the border; half of both deepest features, chosen at random element by element, is replaced by the
latent's. Latent and choices come from a seed. `noise` tells the official form, whose decoder holds noise,
from the loadable file that circulates, which has none. Ours: `side`, `width` of the second stage, `tokens`
(channels of the first), `blocks` of each group; the importer flips the kernels of doubling convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.chance import Seed, normal, seeds_of, uniform
from models.layers.masked_windows import Block
from models.layers.stylegan import (
    Conv,
    Dense,
    DoublingConv,
    Mapping,
    Noise,
    StyledLayer,
    SynthesisLevel,
    ToRGB,
    halved_sizes,
    widths_of,
)
from models.network import Network, SizeRule
from models.registry import architecture

SIZES = (64, 32, 16, 32, 64)  # of the transformer's groups
BLOCKS = (2, 3, 4, 3, 2)
WINDOWS = (8, 16, 16, 16, 8)
HEADS = 6
DEEPEST = 16
LATENT, FIRST_CHOICE, SECOND_CHOICE = 0, 2, 3  # streams of a seed's draws


class Partial(nn.Module):
    """A convolution scaled by how much of its window is known; without a mask everything is."""

    def __init__(self, entering: int, leaving: int, halving: bool = False) -> None:
        super().__init__()
        self.conv = Conv(entering, leaving, halving=halving)
        self.stride = 2 if halving else 1

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = self.conv(x)
        if known is None:
            return x, None
        share = F.avg_pool2d(known, 3, self.stride, 1)
        found = (share > 0).to(known.dtype)
        return x * (found / share.clamp(min=0.1)), found


class Group(nn.Module):
    """Blocks at one size, and a convolution; what entered them is added."""

    def __init__(self, channels: int, index: int, blocks: int) -> None:
        super().__init__()
        size, window = SIZES[index], WINDOWS[index]
        self.change: nn.Module | None = None
        if index:
            halving = size < SIZES[index - 1]
            self.change = (
                Partial(channels, channels, halving=True) if halving else DoublingConv(channels, channels)
            )
        self.blocks = nn.ModuleList(
            Block(channels, HEADS, size, window, shifted=number % 2 == 1) for number in range(blocks)
        )
        self.last = Partial(channels, channels)

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.change, Partial):
            x, known = self.change(x, known)
        elif self.change is not None:
            x = self.change(x)
        tokens, seen = x.permute(0, 2, 3, 1), None if known is None else known.permute(0, 2, 3, 1)
        for block in self.blocks:
            tokens, seen = block(tokens, seen)
        known = None if seen is None else seen.permute(0, 3, 1, 2)
        answer, known = self.last(tokens.permute(0, 3, 1, 2), known)
        return answer + x, known


class FirstStage(nn.Module):
    def __init__(self, side: int, channels: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        halvings = (side // SIZES[0]).bit_length() - 1
        self.enter = Partial(4, channels)
        self.halve = nn.ModuleList(Partial(channels, channels, halving=True) for _ in range(halvings))
        self.groups = nn.ModuleList(Group(channels, *each) for each in enumerate(blocks))
        self.down = nn.Sequential(*(Conv(channels, channels, halving=True) for _ in range(4)))
        self.to_style = Dense(channels, 2 * channels)
        self.ws_style = Dense(width, channels)
        self.to_square = Dense(channels, DEEPEST**2)
        self.levels = nn.ModuleList(
            SynthesisLevel(SIZES[0] << (1 + level), channels, channels, 3 * channels, None, None)
            for level in range(halvings)
        )

    def forward(self, x: Tensor, known: Tensor, style: Tensor, keep: Tensor) -> Tensor:
        feature, seen = self.enter(x, known)
        skips = []
        for layer in self.halve:
            skips.append(feature)
            feature, seen = layer(feature, seen)
        middle = len(SIZES) // 2
        inner = []
        for group in self.groups[:middle]:
            feature, seen = group(feature, seen)
            inner.append(feature)
        feature, _ = self.groups[middle](feature, None)
        style = self.ws_style(style)
        feature = mixed(feature, self.to_square(style), keep)
        whole = self.to_style(self.down(feature).mean((2, 3)))
        for group in self.groups[middle + 1 :]:
            feature = group(feature, None)[0] + inner.pop()
        style, picture = torch.cat([whole, style], 1), None
        for level in self.levels:
            feature, picture = level(feature, picture, skips.pop(), style)
        assert picture is not None
        return picture


def mixed(feature: Tensor, latent: Tensor, keep: Tensor) -> Tensor:
    """`feature` where `keep` is 1, elsewhere the latent's number for the place, whatever the channel."""
    there = latent.view(-1, 1, DEEPEST, DEEPEST)
    return feature * keep + there * (1 - keep)


class SecondStage(nn.Module):
    def __init__(self, side: int, width: int, noise: Noise) -> None:
        super().__init__()
        sizes = halved_sizes(side, DEEPEST)
        widths = widths_of(sizes, width)
        style, widest = 3 * width, widths[sizes[0]]
        self.enter = nn.Sequential(Conv(7, widest, kernel=1), Conv(widest, widest))
        self.halve = nn.ModuleList(
            nn.Sequential(
                Conv(widths[2 * size], widths[size], halving=True), Conv(widths[size], widths[size])
            )
            for size in sizes[1:]
        )
        self.to_square = Dense(width, DEEPEST**2)
        self.down = nn.Sequential(*(Conv(width, width, halving=True) for _ in range(3)))
        self.to_style = Dense(width, 2 * width)
        self.first = Conv(width, width)
        self.kept = StyledLayer(width, width, style, False, noise, DEEPEST)
        self.picture = ToRGB(width, style)
        self.levels = nn.ModuleList(
            SynthesisLevel(size, widths[size // 2], widths[size], style, noise, None)
            for size in sizes[-2::-1]
        )

    def forward(self, x: Tensor, style: Tensor, keep: Tensor) -> Tensor:
        skips = [self.enter(x)]
        for layer in self.halve:
            skips.append(layer(skips[-1]))
        deepest = mixed(skips.pop(), self.to_square(style), keep)
        whole = self.to_style(self.down(deepest).mean((2, 3)))
        style = torch.cat([style, whole], 1)
        x = self.kept(self.first(deepest) + deepest, style)
        picture: Tensor = self.picture(x, style)
        for level in self.levels:
            x, picture = level(x, picture, skips.pop(), style)
        return picture


@architecture(
    "mat",
    task="inpaint",
    draws=True,
    paper="MAT: Mask-Aware Transformer for Large Hole Image Inpainting (CVPR 2022)",
)
class Mat(Network):
    sides = SizeRule(minimum=512, multiple=512, maximum=512)
    window = 512
    mean_style: Tensor

    def __init__(
        self,
        side: int = 512,
        width: int = 512,
        tokens: int = 180,
        blocks: Sequence[int] = BLOCKS,
        noise: bool = False,
    ) -> None:
        super().__init__()
        self.sides = SizeRule(side, side, side)
        self.window = side
        self.width, self.tokens, self.noise = width, tokens, noise
        self.register_buffer("mean_style", torch.zeros(width))
        self.mapping = Mapping(width)
        self.coarse = FirstStage(side, tokens, width, blocks)
        self.refined = SecondStage(side, width, "fixed" if noise else None)

    def forward(
        self, image: Tensor, mask: Tensor, sketch: Tensor | None = None, **drawn: Seed | float | None
    ) -> Tensor:
        """What may be `drawn`: `seed`, and the further keyword arguments of `stages`."""
        return self.stages(image, mask, sketch, **drawn)[-1]  # type: ignore[arg-type]

    def stages(
        self,
        image: Tensor,
        mask: Tensor,
        sketch: Tensor | None = None,
        *,
        seed: Seed = 0,
        z: Tensor | None = None,
        truncation_psi: float | Tensor | None = None,
        keep1: Tensor | None = None,
        keep2: Tensor | None = None,
    ) -> list[Tensor]:
        """The first and the second stage's picture, each on [0, 1].

        `z` (B, width) is the latent, `keep1` (B, 256, tokens) and `keep2` (B, width, 16, 16) are the choices.
        """
        seeds = seeds_of(seed, image, self.training)
        style: Tensor = self.mapping((normal(seeds, LATENT, self.width) if z is None else z).to(image.dtype))
        if truncation_psi is not None:
            style = self.mean_style + (style - self.mean_style) * truncation_psi
        if keep1 is None:
            keep1 = uniform(seeds, FIRST_CHOICE, DEEPEST**2, self.tokens) < 0.5
        if keep2 is None:
            keep2 = uniform(seeds, SECOND_CHOICE, self.width, DEEPEST, DEEPEST) < 0.5
        of_tokens = keep1.transpose(1, 2).reshape(-1, self.tokens, DEEPEST, DEEPEST)
        known = 1 - mask
        seen = (2 * image - 1) * known
        first = self.coarse(torch.cat([known - 0.5, seen], 1), known, style, of_tokens.to(image.dtype))
        pasted = seen + first * mask
        second = self.refined(torch.cat([known - 0.5, pasted, seen], 1), style, keep2.to(image.dtype))
        return [(first + 1) / 2, (second + 1) / 2]
