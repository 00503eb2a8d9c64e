"""The last step of a fill that was drawn and copied: what to believe of either, and what both lack."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.inpainting.structure import Doubling, Residual, halving

FINE = 16  # channels at full size


class Finish(nn.Module):
    """A U-Net from half of the resolution down, `width` wide, and two convolutions at full size.

    It answers with the drawing, a share of what the copy adds to it, and a correction. Untrained that is half
    of the copy and no correction.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * 7, width, 3, padding=1)
        self.first = Residual(width)
        self.down = halving(width, 2 * width)
        self.middle = nn.Sequential(*(Residual(2 * width, dilation) for dilation in (1, 2, 4)))
        self.up = Doubling(2 * width, width)
        self.last = Residual(width)
        self.coarse = Doubling(width, FINE)
        self.fine = nn.Conv2d(7, FINE, 3, padding=1)
        self.mix = nn.Conv2d(FINE, FINE, 3, padding=1)
        self.leave = nn.Conv2d(FINE, 4, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, guide: Tensor, copied: Tensor, mask: Tensor) -> Tensor:
        detail = copied - guide
        seen = torch.cat([2 * guide - 1, 4 * detail, mask], 1)
        x = self.first(self.enter(F.pixel_unshuffle(seen, 2)))
        x = self.last(x + self.up(self.middle(self.down(x))))
        x = F.silu(self.fine(seen) + self.coarse(F.silu(x)))
        believed, correction = self.leave(F.silu(self.mix(x))).split([1, 3], 1)
        return guide + torch.sigmoid(believed) * detail + correction
