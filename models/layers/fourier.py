"""Fast Fourier convolution (Chi et al., NeurIPS 2020): a layer with a local and a global half.

The global half is convolved in the frequency domain, so that each value sees the whole picture. ONNX has no
real transform that its runtimes agree on, so an export multiplies by the transform's matrices instead; both
ways are in float32, since half precision loses the large low frequencies (and cuFFT's half transform takes
powers of two only).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_frequencies(x: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the orthonormal real transform over rows and columns."""
    if not torch.onnx.is_in_onnx_export():
        both = torch.view_as_real(torch.fft.rfft2(x, norm="ortho"))
        return both[..., 0], both[..., 1]
    return matrix_to_frequencies(x)


def from_frequencies(real: Tensor, imaginary: Tensor, like: Tensor) -> Tensor:
    """The inverse, of the height and width of `like`: the columns' number is not told by its half."""
    if not torch.onnx.is_in_onnx_export():
        size = (like.shape[-2], like.shape[-1])
        return torch.fft.irfft2(torch.complex(real, imaginary), s=size, norm="ortho")
    return matrix_from_frequencies(real, imaginary, like)


def matrix_to_frequencies(x: Tensor) -> tuple[Tensor, Tensor]:
    down_cosine, down_sine = waves(x[0, 0, :, 0])
    cosine, sine = waves(x[0, 0, 0])
    kept = x.shape[-1] // 2 + 1
    real, imaginary = x @ cosine[:, :kept], -(x @ sine[:, :kept])
    return down_cosine @ real + down_sine @ imaginary, down_cosine @ imaginary - down_sine @ real


def matrix_from_frequencies(real: Tensor, imaginary: Tensor, like: Tensor) -> Tensor:
    down_cosine, down_sine = waves(like[0, 0, :, 0])
    cosine, sine = waves(like[0, 0, 0])
    width = like.shape[-1]
    kept = width // 2 + 1
    across_real = down_cosine @ real - down_sine @ imaginary
    across_imaginary = down_cosine @ imaginary + down_sine @ real
    # All but the first frequency, and the last of an even width, stand for their mirror image too.
    frequency = counted(like[0, 0, 0])[:kept]
    alone = (frequency == 0) | (2 * frequency == width)
    weight = torch.where(alone, 1.0, 2.0).to(real.dtype)
    return (across_real * weight) @ cosine[:kept] - (across_imaginary * weight) @ sine[:kept]


def counted(line: Tensor) -> Tensor:
    """0, 1, 2 ... as long as `line`; counted by adding, so that an export keeps the length open."""
    return torch.ones_like(line, dtype=torch.int64).cumsum(0) - 1


def waves(line: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric matrices cos(2 pi i k / n) and sin(2 pi i k / n), over sqrt(n), for n = len(line)."""
    index = counted(line)
    length = line.shape[0]
    # Whole turns are taken off as integers: the angle keeps its precision however large i k is.
    turns = (index[:, None] * index[None, :]) % length
    angle = turns.to(line.dtype) * (2 * math.pi) / length
    scale = torch.ones_like(line).sum().rsqrt()
    return angle.cos() * scale, angle.sin() * scale


class FourierUnit(nn.Module):
    """A 1x1 convolution of the frequencies: real and imaginary part of channel c are channels 2c and 2c+1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        full = x.float()
        frequencies = torch.stack(to_frequencies(full), 2).flatten(1, 2).to(x.dtype)
        frequencies = F.relu(self.norm(self.conv(frequencies))).float()
        return from_frequencies(frequencies[:, ::2], frequencies[:, 1::2], full).to(x.dtype)


class Spectral(nn.Module):
    """Global to global: a Fourier unit at half the channels, added to what enters it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.enter = nn.Conv2d(channels, half, 1, bias=False)
        self.norm = nn.BatchNorm2d(half)
        self.fourier = FourierUnit(half)
        self.leave = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.enter(x)))
        return self.leave(x + self.fourier(x))


class FastFourierConv(nn.Module):
    """k3 convolutions among a local and a global half; the global half goes to itself through `Spectral`.

    Channels are given as (local, global); without entering global channels it divides a map in two.
    """

    def __init__(self, entering: tuple[int, int], leaving: tuple[int, int], stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

        def conv(before: int, after: int) -> nn.Conv2d:
            return nn.Conv2d(before, after, 3, stride, bias=False)

        self.local_to_local = conv(entering[0], leaving[0])
        self.local_to_global = conv(entering[0], leaving[1])
        self.global_to_local = conv(entering[1], leaving[0]) if entering[1] else None
        self.global_to_global = Spectral(entering[1]) if entering[1] else None
        self.local_norm = nn.BatchNorm2d(leaving[0])
        self.global_norm = nn.BatchNorm2d(leaving[1])

    def forward(self, local: Tensor, everywhere: Tensor | None = None) -> tuple[Tensor, Tensor]:
        padded = reflected(local)
        new_local, new_global = self.local_to_local(padded), self.local_to_global(padded)
        if everywhere is not None and self.global_to_local and self.global_to_global:
            new_local = new_local + self.global_to_local(reflected(everywhere))
            new_global = new_global + self.global_to_global(everywhere)
        return F.relu(self.local_norm(new_local)), F.relu(self.global_norm(new_global))


def reflected(x: Tensor, by: int = 1) -> Tensor:
    return F.pad(x, (by, by, by, by), mode="reflect")
