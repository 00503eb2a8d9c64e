"""Partial convolution (Liu et al., ECCV 2018): a convolution over what is known, and a new mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.constants import constant


class PartialConv(nn.Module):
    """Convolves features that are concatenated from several sources, each with a mask of its own.

    The public code carries a mask value for every channel, all of one source alike; one plane a source says
    the same. `valid` is 1 where a feature is known. A window without a known feature answers 0 and stays
    unknown; any other is scaled by window size / known part.
    """

    def __init__(
        self, entering: Sequence[int], leaving: int, kernel: int = 3, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.entering, self.kernel, self.stride = tuple(entering), kernel, stride
        self.conv = nn.Conv2d(sum(entering), leaving, kernel, stride, kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(leaving)) if bias else None

    def forward(self, features: Sequence[Tensor], valid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        masked = torch.cat([part * mask for part, mask in zip(features, valid, strict=True)], 1)
        known = self.known(valid)
        window = sum(self.entering) * self.kernel**2
        answer = self.conv(masked) * (window / known.clamp(min=1.0))
        if self.bias is not None:
            answer = answer + self.bias[:, None, None]
        found = (known > 0).to(answer.dtype)
        return answer * found, found

    def known(self, valid: Sequence[Tensor]) -> Tensor:
        """(B, 1, h, w): how many known values lie in each window, over all channels."""
        weight = constant(tuple(self.entering), valid[0])
        kernel = weight.view(1, -1, 1, 1).expand(1, -1, self.kernel, self.kernel)
        return F.conv2d(torch.cat(list(valid), 1), kernel, stride=self.stride, padding=self.kernel // 2)
