"""Overlapping patches put together."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pasted(patches: Tensor, height: int, width: int, step: int = 2, before: int | None = None) -> Tensor:
    """(B, height * width, C * 2 step * 2 step) -> (B, C, step * height, step * width): what `F.fold` makes of
    patches of 2 step with stride `step`, in operators that every ONNX runtime has.

    Each quarter of a patch is a block, and the blocks of one quarter tile the whole map. `before` is the
    padding at the top and the left, by default half of the stride as at the bottom and the right.
    """
    before = step // 2 if before is None else before
    channels = patches.shape[-1] // (4 * step * step)
    quarters = patches.transpose(1, 2).reshape(-1, channels, 2 * step, 2 * step, height, width)
    total = None
    for top in (0, step):
        for left in (0, step):
            blocks = quarters[:, :, top : top + step, left : left + step].permute(0, 1, 4, 2, 5, 3)
            tiled = blocks.reshape(-1, channels, step * height, step * width)
            placed = F.pad(tiled, (left, step - left, top, step - top))
            total = placed if total is None else total + placed
    assert total is not None
    after = before - step
    return total[..., before:after, before:after]
