"""Attention shared by maps of several sizes (Yi et al., CVPR 2020): learnt on one, pasted on the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.contextual_attention import Matching
from models.layers.pasting import pasted

SCALE = 10.0


def attention(features: Tensor, mask: Tensor) -> Tensor:
    """(B, queries, keys) for every second row and column of `features`; `mask` is the picture's.

    As DeepFill's, but for the mask, of which any pixel of a cell counts, and in float32 for a steep softmax.
    """
    half = features[..., ::2, ::2].float()
    height, width = half.shape[-2:]
    queries = F.unfold(half, 3, padding=1)
    keys = queries / queries.square().sum(1, keepdim=True).sqrt().clamp(min=1e-8)
    cell = mask.shape[-1] // width
    holes = F.max_pool2d(mask.float(), cell, cell)
    usable = (F.max_pool2d(holes, 3, 1, 1) == 0).to(half.dtype).flatten(2)
    with torch.autocast(features.device.type, enabled=False):
        scores = Matching(queries.transpose(1, 2), keys, usable * SCALE, (height, width)).band(0, height)
        return scores.softmax(-1) * usable


def transferred(features: Tensor, weights: Tensor, step: int) -> Tensor:
    """`features` rebuilt from their own patches as `weights` say, overlaps summed; a cell has `step` rows.

    Patches are twice as large as their stride, but 3x3 where that is 2.
    """
    height, width = features.shape[-2] // step, features.shape[-1] // step
    side, before = (3, 0) if step == 2 else (2 * step, step // 2)
    after = side - step - before
    padded = F.pad(features.float(), (before, after, before, after))
    patches = F.unfold(padded, side, stride=step).transpose(1, 2)
    with torch.autocast(features.device.type, enabled=False):
        answer = weights @ patches
    if side < 2 * step:  # as the larger patch's first rows and columns
        channels = features.shape[1]
        small = answer.reshape(-1, height * width, channels, side, side)
        answer = F.pad(small, (0, 1, 0, 1)).flatten(2)
    return pasted(answer, height, width, step, before).to(features.dtype)


def aggregated(residual: Tensor, weights: Tensor, cell: int) -> Tensor:
    """`residual` (B, C, H, W) in which every cell is the mean of all as `weights` (B, some cells, cells) say.

    The answer (B, some cells, C, cell, cell) is for those queries that `weights` has.
    """
    channels = residual.shape[1]
    cells = F.unfold(residual, cell, stride=cell).transpose(1, 2)
    return (weights @ cells).reshape(residual.shape[0], -1, channels, cell, cell)
