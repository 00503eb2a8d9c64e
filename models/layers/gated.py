"""Convolutions as DeepFill uses them: padded like TensorFlow, plain (v1) or gated (v2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["same", "symmetric"]
Activation = Callable[[Tensor], Tensor]


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
        return self.activation(self.conv(x))


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

    def forward(self, x: Tensor) -> Tensor:
        if self.uneven:
            x = F.pad(x, (self.before, self.after, self.before, self.after))
        values, gates = self.conv(x).chunk(2, dim=1)
        return self.activation(values) * torch.sigmoid(gates)
