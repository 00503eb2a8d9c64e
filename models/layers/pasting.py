"""Overlapping patches put together."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pasted(patches: Tensor, height: int, width: int) -> Tensor:
    """(B, height * width, C * 4 * 4) -> (B, C, 2 height, 2 width): what `F.fold` makes of 4x4 patches with
    stride 2 and padding 1, in operators that every ONNX runtime has.

    Each quarter of a patch is a block of 2x2 values, and the blocks of one quarter tile the whole map.
    """
    channels = patches.shape[-1] // 16
    quarters = patches.transpose(1, 2).reshape(-1, channels, 4, 4, height, width)
    total = None
    for top in (0, 2):
        for left in (0, 2):
            blocks = quarters[:, :, top : top + 2, left : left + 2].permute(0, 1, 4, 2, 5, 3)
            tiled = blocks.reshape(-1, channels, 2 * height, 2 * width)
            placed = F.pad(tiled, (left, 2 - left, top, 2 - top))
            total = placed if total is None else total + placed
    assert total is not None
    return total[..., 1:-1, 1:-1]
