"""Mask-aware dynamic filtering (Zhu et al., 2021): a convolution whose filter is another at every point.

A 1x1 convolution of `hidden` channels would emit every point's filter: 294 x 16 numbers for each of the first
level's. But the filters are linear in those channels, so that the answer is a mixture, with the channels as
its weights, of as many ordinary convolutions and one more for the bias. `tests` keep the plain form and
compare.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DynamicConv(nn.Module):
    """Halves the sides; `mixture` (B, hidden, h/2, w/2) says which filter each point of the answer has."""

    def __init__(self, entering: int, leaving: int, kernel: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.leaving = hidden, leaving
        # One filter bank for each hidden channel, and the constant one.
        self.banks = nn.Conv2d(entering, (hidden + 1) * leaving, kernel, 2, kernel // 2, bias=False)

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        answers = self.banks(x)
        *varying, total = torch.split(answers, self.leaving, 1)
        for channel, answer in enumerate(varying):
            total = torch.addcmul(total, answer, mixture[:, channel : channel + 1])
        return total
