"""Convolutions as DeepFill uses them: padded like TensorFlow, plain (v1) or gated (v2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["same", "symmetric"]
Activation = Callable[..., Tensor]


def identity(x: Tensor) -> Tensor:
    return x


class PaddedConv(nn.Module):
    """A convolution whose answer has ceil(side / stride) rows and columns.

    `same` pads as TensorFlow does: where the padding is odd (stride 2 on an even side), the bottom and the
    right get the larger part. `symmetric` pads both sides alike.
    """

    def __init__(
        self,
        entering: int,
        leaving: int,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "same",
        activation: Activation = F.elu,
    ) -> None:
        super().__init__()
        reach = dilation * (kernel - 1)
        # Stride 2 needs one row less; TensorFlow takes it from the top, whatever the (even) side.
        self.uneven = padding == "same" and stride == 2
        self.before, self.after = (reach - 1) // 2, reach // 2
        self.conv = nn.Conv2d(
            entering, leaving, kernel, stride, 0 if self.uneven else reach // 2, dilation=dilation
        )
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        if self.uneven:
            x = F.pad(x, (self.before, self.after, self.before, self.after))
        return self.activated(self.conv(x))

    def doubled(self, x: Tensor) -> Tensor:
        """The same as `forward` of `x` enlarged by 2 to its nearest pixels, in 4/9 of the products.

        Of the three rows under the kernel two are equal, so their weights are added first: what is left is a
        transposed convolution of 4x4.
        """
        if torch.onnx.is_in_onnx_export():  # where transposed convolutions are the slower ones
            return self(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        kernel = halved(halved(self.conv.weight, 2), 3).transpose(0, 1)
        return self.activated(F.conv_transpose2d(x, kernel, self.conv.bias, stride=2, padding=1))

    def activated(self, x: Tensor) -> Tensor:
        return self.activation(x)


class GatedConv(PaddedConv):
    """One convolution to twice the channels: the activated half times the sigmoid of the other."""

    def __init__(
        self,
        entering: int,
        leaving: int,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "same",
        activation: Activation = F.elu,
    ) -> None:
        super().__init__(entering, 2 * leaving, kernel, stride, dilation, padding, activation)

    def activated(self, x: Tensor) -> Tensor:
        values, gates = x.chunk(2, dim=1)
        if torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
            return self.activation(values) * torch.sigmoid(gates)
        return self.activation(values, inplace=True) * gates.sigmoid_()


def halved(kernel: Tensor, axis: int) -> Tensor:
    """Three taps over repeated pixels, as the four taps that each of these pixels has on the answer."""
    first, middle, last = kernel.unbind(axis)
    return torch.stack([last, middle + last, first + middle, first], axis)
