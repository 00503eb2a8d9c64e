"""What the descendants of StyleGAN2 share: its filter, its activation, convolutions that a style modulates.

Weights are those that are applied: importers fold the scaling at run time (1 / sqrt(fan in)) into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.binomial import TAPS, doubled

GAIN = 2**0.5

FULL_AT = 64  # the size below which widths do not grow

Noise = Literal["fixed", "drawn"] | None


def halved_sizes(largest: int, deepest: int) -> list[int]:
    """From the largest on, each half of the one before."""
    return [largest >> level for level in range((largest // deepest).bit_length())]


def widths_of(sizes: list[int], widest: int) -> dict[int, int]:
    return {size: min(FULL_AT * widest // size, widest) for size in sizes}


def activated(x: Tensor, clamp: float | None = None) -> Tensor:
    x = F.leaky_relu(x, 0.2) * GAIN
    return x if clamp is None else x.clamp(-clamp, clamp)


class Filter(nn.Module):
    """The binomial filter of 4x4, channel by channel, where a convolution halves or doubles."""

    taps: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor(TAPS) / sum(TAPS)
        kernel = torch.outer(taps, taps).repeat(channels, 1, 1, 1)
        self.register_buffer("taps", kernel, persistent=False)

    def forward(self, x: Tensor, padding: int) -> Tensor:
        return F.conv2d(x, self.taps.to(x.dtype), padding=padding, groups=self.taps.shape[0])


class Dense(nn.Linear):
    """A linear layer with the activation."""

    def forward(self, x: Tensor) -> Tensor:
        return activated(super().forward(x))


class Conv(nn.Module):
    """A plain convolution with the activation; a halving one is filtered first."""

    def __init__(
        self, entering: int, leaving: int, kernel: int = 3, halving: bool = False, clamp: float | None = None
    ) -> None:
        super().__init__()
        stride, padding = (2, 0) if halving else (1, kernel // 2)
        self.conv = nn.Conv2d(entering, leaving, kernel, stride, padding)
        self.filter = Filter(entering) if halving else None
        self.clamp = clamp

    def forward(self, x: Tensor) -> Tensor:
        if self.filter is not None:
            x = self.filter(x, 2)
        return activated(self.conv(x), self.clamp)


class DoublingConv(nn.Module):
    """A transposed convolution with stride 2, filtered, with the activation."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, 3)
        self.filter = Filter(leaving)

    def forward(self, x: Tensor) -> Tensor:
        grown = F.conv_transpose2d(x, self.conv.weight.transpose(0, 1), stride=2)
        assert self.conv.bias is not None
        return activated(self.filter(grown, 1) * 4 + self.conv.bias[:, None, None])


class ModulatedConv(nn.Module):
    """A convolution whose entering channels a sample's style scales, and whose leaving ones it makes even.

    The features are scaled and not the weights, so that a batch shares one convolution. `doubling` is a
    transposed convolution with stride 2, filtered.
    """

    def __init__(
        self,
        entering: int,
        leaving: int,
        style: int,
        kernel: int = 3,
        doubling: bool = False,
        demodulates: bool = True,
    ) -> None:
        super().__init__()
        self.affine = nn.Linear(style, entering)
        nn.init.ones_(self.affine.bias)
        self.weight = nn.Parameter(torch.randn(leaving, entering, kernel, kernel) / (entering**0.5 * kernel))
        self.demodulates = demodulates
        self.filter = Filter(leaving) if doubling else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = self.affine(style).float()
        # Half precision could not hold what large styles make of the features.
        most = scale.abs().amax(1, keepdim=True) if self.demodulates else torch.ones_like(scale[:, :1])
        x = x * as_planes(scale / most.clamp(min=1e-8), x)
        if self.filter is not None:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = self.filter(x, 1) * 4
        else:
            x = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        return x * as_planes(self.evening(scale) * most, x) if self.demodulates else x

    def evening(self, scale: Tensor) -> Tensor:
        with torch.autocast(scale.device.type, enabled=False):
            power = self.weight.float().square().sum((2, 3))
            return (scale.square() @ power.t() + 1e-8).rsqrt()


def as_planes(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[:, :, None, None]


class StyledLayer(nn.Module):
    """A modulated convolution, noise, bias, activation.

    Noise is the layer's own, always the same (`fixed`, of one `side`), or what the caller gives, if any.
    """

    noise_const: Tensor

    def __init__(
        self,
        entering: int,
        leaving: int,
        style: int,
        doubling: bool = False,
        noise: Noise = None,
        side: int = 0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(entering, leaving, style, doubling=doubling)
        self.bias = nn.Parameter(torch.zeros(leaving))
        self.noise_strength = nn.Parameter(torch.zeros(())) if noise else None
        self.fixed = noise == "fixed"
        if self.fixed:
            self.register_buffer("noise_const", torch.randn(side, side))
        self.clamp = clamp

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        x = self.conv(x, style)
        if noise is None and self.fixed:
            noise = self.noise_const
        if self.noise_strength is not None and noise is not None:
            x = x + (self.noise_strength * noise).to(x.dtype)
        return activated(x + self.bias.to(x.dtype)[:, None, None], self.clamp)


class ToRGB(nn.Module):
    """Adds a feature's colours to the doubled picture so far."""

    def __init__(self, entering: int, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(entering, 3, style, kernel=1, demodulates=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, style: Tensor, picture: Tensor | None = None) -> Tensor:
        answer = self.conv(x, style) + self.bias[:, None, None]
        return answer if picture is None else answer + doubled(picture)


class SynthesisLevel(nn.Module):
    """One size of the synthesis: twice the one before, the encoder's feature added, and a better picture."""

    def __init__(
        self, side: int, entering: int, leaving: int, style: int, noise: Noise, clamp: float | None
    ) -> None:
        super().__init__()
        self.grown = StyledLayer(entering, leaving, style, True, noise, side, clamp)
        self.kept = StyledLayer(leaving, leaving, style, False, noise, side, clamp)
        self.picture = ToRGB(leaving, style)

    def forward(
        self,
        x: Tensor,
        picture: Tensor | None,
        skip: Tensor,
        style: Tensor,
        noise: Sequence[Tensor | None] = (None, None),
    ) -> tuple[Tensor, Tensor]:
        x = self.grown(x, style, noise[0]) + skip
        x = self.kept(x, style, noise[1])
        return x, self.picture(x, style, picture)


class Mapping(nn.Module):
    """A latent into the styles' space."""

    def __init__(self, width: int, layers: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Dense(width, width) for _ in range(layers)))

    def forward(self, latent: Tensor) -> Tensor:
        wide = latent.float()
        evened = wide * (wide.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        answer: Tensor = self.layers(evened.to(latent.dtype))
        return answer
