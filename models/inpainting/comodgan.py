"""comodgan: large scale image completion via co-modulated GANs (Zhao et al., ICLR 2021).

An encoder down to a vector, and StyleGAN2's synthesis, whose every layer that vector and a latent modulate
together. Two layouts of the same network: `official`, which draws its noise, and `migan`, the files that come
with MI-GAN, which hold it. What a port of the official files forgets, the skip at 4x4, is here; what the
official graph does at inference too, dropout of the vector, is not. Latent and drawn noise come from a seed.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from models.layers.chance import Seed, normal, seeds_of
from models.layers.stylegan import (
    Conv,
    Dense,
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

DEEPEST = 4
CLAMP = 256.0

Layout = Literal["official", "migan"]


class Encoder(nn.Module):
    def __init__(self, sides: list[int], widths: dict[int, int], dense: int, clamp: float | None) -> None:
        super().__init__()
        self.enter = Conv(4, widths[sides[0]], kernel=1, clamp=clamp)
        self.keep = nn.ModuleList(Conv(widths[side], widths[side], clamp=clamp) for side in sides)
        self.halve = nn.ModuleList(
            Conv(widths[side], widths[side // 2], halving=True, clamp=clamp) for side in sides[:-1]
        )
        self.dense = Dense(widths[DEEPEST] * DEEPEST**2, dense)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The vector, and each size's feature, the deepest last."""
        x = self.enter(x)
        skips = []
        for level, keep in enumerate(self.keep):
            x = keep(x)
            skips.append(x)
            if level < len(self.halve):
                x = self.halve[level](x)
        return self.dense(x.flatten(1)), skips


@architecture(
    "comodgan",
    task="inpaint",
    draws=True,
    paper="Large Scale Image Completion via Co-Modulated Generative Adversarial Networks (ICLR 2021)",
)
class CoModGan(Network):
    sides = SizeRule(minimum=512, multiple=512, maximum=512)
    window = 512
    mean_style: Tensor

    def __init__(self, side: int = 512, width: int = 512, layout: Layout = "official") -> None:
        super().__init__()
        self.sides = SizeRule(side, side, side)
        self.window = side
        self.layout, self.width = layout, width
        noise: Noise = "fixed" if layout == "migan" else "drawn"
        clamp = CLAMP if layout == "migan" else None
        sides = halved_sizes(side, DEEPEST)
        widths = widths_of(sides, width)
        style = 3 * width
        self.mapping = Mapping(width)
        if layout == "migan":
            self.register_buffer("mean_style", torch.zeros(width))
        self.encoder = Encoder(sides, widths, 2 * width, clamp)
        self.spread = Dense(2 * width, width * DEEPEST**2)
        self.first = StyledLayer(width, width, style, False, noise, DEEPEST, clamp)
        self.first_picture = ToRGB(width, style)
        self.levels = nn.ModuleList(
            SynthesisLevel(size, widths[size // 2], widths[size], style, noise, clamp)
            for size in sides[-2::-1]
        )

    def forward(
        self,
        image: Tensor,
        mask: Tensor,
        sketch: Tensor | None = None,
        *,
        seed: Seed = 0,
        z: Tensor | None = None,
        truncation_psi: float | Tensor | None = None,
        **noise: Tensor,
    ) -> Tensor:
        """`z` (B, width) is the latent; `noise0`, `noise1` and so on, all or none, are the layers' noise."""
        known, seeds = 1 - mask, seeds_of(seed, image, self.training)
        vector, skips = self.encoder(torch.cat([known - 0.5, (2 * image - 1) * known], 1))
        style = torch.cat([self.style(seeds, z, truncation_psi, image.dtype).to(vector.dtype), vector], 1)
        x = self.spread(vector).view(skips[-1].shape) + skips.pop()
        drawn = self.noises(seeds, noise)
        x = self.first(x, style, drawn[0])
        picture = self.first_picture(x, style)
        for index, level in enumerate(self.levels):
            x, picture = level(x, picture, skips.pop(), style, drawn[2 * index + 1 : 2 * index + 3])
        return (picture + 1) / 2

    def style(
        self, seeds: Tensor, z: Tensor | None, psi: float | Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        latent = normal(seeds, 0, self.width) if z is None else z
        style: Tensor = self.mapping(latent.to(dtype))
        if psi is None:
            return style
        if self.layout != "migan":
            raise ValueError("a file of the official layout holds no mean style to truncate to")
        return self.mean_style + (style - self.mean_style) * psi

    def noises(self, seeds: Tensor, given: dict[str, Tensor]) -> list[Tensor | None]:
        """Of all layers, in one draw where nothing is given; None where a layer's own serves."""
        names = [f"noise{index}" for index in range(2 * len(self.levels) + 1)]
        if given and sorted(given) != sorted(names):
            raise TypeError(
                f"forward takes {names[0]} to {names[-1]}, all of them or none, not {sorted(given)}"
            )
        if given or self.layout == "migan":
            return [given.get(name) for name in names]
        sides = [DEEPEST, *(DEEPEST << level for level in range(1, len(self.levels) + 1) for _ in range(2))]
        counts = [side**2 for side in sides]
        parts = torch.split(normal(seeds, 1, sum(counts)), counts, 1)
        return [part.view(-1, 1, side, side) for part, side in zip(parts, sides, strict=True)]
