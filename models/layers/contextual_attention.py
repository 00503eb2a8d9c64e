"""Contextual attention (Yu et al., CVPR 2018): the hole's features rebuilt from known patches.

Every 3x3 patch of the halved map attends to all known 3x3 patches, and the answer is put together from the
4x4 patches of the full map that lie under them. The public code makes each sample's patches into convolution
filters and takes the first sample's mask for all; written as matrix products, every sample has its own mask,
and queries can go in bands of rows, so that memory is bounded whatever the size. `tests` keep the formula as
the papers' code states it and compare.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.pasting import pasted

BAND_VALUES = 1 << 25  # scores held at once: 128 MB in float32


class ContextualAttention(nn.Module):
    """`official` downsamples and normalises as the TensorFlow graphs do, otherwise as the PyTorch port of v1.

    Neighbouring matches support each other through `fused`; patches that touch the hole are no source, but
    keep their share of the softmax, as in the graphs.
    """

    def __init__(self, scale: float = 10.0, official: bool = True) -> None:
        super().__init__()
        self.scale, self.official = scale, official

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """`features` (B, C, h, w) and the `mask` of the whole picture (B, 1, H, W), 1 in the hole."""
        # Scores reach thousands, where half precision steps by whole numbers.
        with torch.autocast(features.device.type, enabled=False):
            wide = features.to(torch.promote_types(features.dtype, torch.float32))
            return self.matched(wide, mask.to(wide.dtype)).to(features.dtype)

    def matched(self, features: Tensor, mask: Tensor) -> Tensor:
        half = self.halve(features)
        height, width = half.shape[-2:]
        queries = F.unfold(half, 3, padding=1)
        keys = queries / self.norm(queries)
        usable = self.usable(mask, features.shape[-2:], (height, width))
        values = F.unfold(features, 4, stride=2, padding=1) * usable
        matching = Matching(queries.transpose(1, 2), keys, usable * self.scale, (height, width))
        return pasted(matching.answer(values.transpose(1, 2)), height, width) / 4

    def halve(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2] // 2, features.shape[-1] // 2
        return pick(features, (height, width)) if self.official else features[..., ::2, ::2]

    def norm(self, patches: Tensor) -> Tensor:
        if self.official:
            return patches.square().sum(1, keepdim=True).sqrt().clamp(min=1e-4)
        return (patches.square() + 1e-4).sum(1, keepdim=True).sqrt()

    def usable(self, mask: Tensor, full: torch.Size, half: tuple[int, int]) -> Tensor:
        """(B, 1, L): 1 where the 3x3 window of the downsampled mask holds no hole."""
        if self.official:
            small = pick(pick(mask, (full[0], full[1])), half)
        else:
            small = mask[..., :: mask.shape[-2] // half[0], :: mask.shape[-1] // half[1]]
        return (F.max_pool2d(small, 3, 1, 1) == 0).to(mask.dtype).flatten(2)


def pick(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest downsampling with aligned corners, TensorFlow's: output i takes floor(i (n-1)/(m-1) + 0.5)."""
    for axis, count in zip((-2, -1), size, strict=True):
        last = count - 1 + 1 // count  # at least 1; written so that an export follows the size
        doubled = 2 * torch.arange(count, device=x.device) * (x.shape[axis] - 1) + last
        x = x.index_select(axis, doubled // (2 * last))
    return x


class Matching:
    """Fused scores and their softmax, a band of query rows at a time."""

    def __init__(self, queries: Tensor, keys: Tensor, weight: Tensor, shape: tuple[int, int]) -> None:
        self.queries, self.keys, self.weight = queries, keys, weight
        self.height, self.width = shape
        self.count = self.height * self.width

    def answer(self, values: Tensor) -> Tensor:
        """(B, queries, values' length)."""
        if torch.onnx.is_in_onnx_export():
            rows = self.height  # a loop would freeze the number of bands
        else:
            rows = max(1, BAND_VALUES // (self.queries.shape[0] * self.width * self.count))
        bands = [
            self.band(top, min(self.height, top + rows)).softmax(-1) @ values
            for top in range(0, self.height, rows)
        ]
        return torch.cat(bands, 1) if len(bands) > 1 else bands[0]

    def band(self, top: int, bottom: int) -> Tensor:
        """(B, queries of these rows, keys): scores after both fusions, ready for the softmax."""
        middle = self.fused_along_rows(top * self.width, bottom * self.width)
        above = self.row_before(top)
        below = self.row_after(bottom)
        shape = (middle.shape[0], -1, self.width, self.height, self.width)
        rows = torch.cat([above, middle, below], 1).view(shape)
        total = middle.view(shape)  # a tensor of its own, unlike the parts of `rows`
        last = self.height - 1
        # Column by column, the key before (row, column) is the one above it, or the foot of the last column.
        before, after = rows[:, :-2], rows[:, 2:]
        total = plus(total, before[..., :last, :], (0, 0, 1, 0))
        total = plus(total, before[..., last:, :-1], (1, 0, 0, last))
        total = plus(total, after[..., 1:, :], (0, 0, 0, 1))
        total = plus(total, after[..., :1, 1:], (0, 1, last, 0))
        scores = total.flatten(3).flatten(1, 2)
        return scores * self.weight if torch.is_grad_enabled() else scores.mul_(self.weight)

    def row_before(self, row: int) -> Tensor:
        """The scores of the queries that come before `row`'s, column by column."""
        if row > 0:
            return self.fused_along_rows((row - 1) * self.width, row * self.width)
        foot = self.fused_along_rows(self.count - self.width, self.count)
        return F.pad(foot[:, :-1], (0, 0, 1, 0))

    def row_after(self, row: int) -> Tensor:
        if row < self.height:
            return self.fused_along_rows(row * self.width, (row + 1) * self.width)
        head = self.fused_along_rows(0, self.width)
        return F.pad(head[:, 1:], (0, 0, 0, 1))

    def fused_along_rows(self, start: int, stop: int) -> Tensor:
        """Scores of the queries start..stop, each with those of its neighbours for the keys' neighbours."""
        first, last = max(0, start - 1), min(self.count, stop + 1)
        scores = self.queries[:, first:last] @ self.keys
        total = scores[:, start - first : scores.shape[1] - (last - stop)].clone()
        earlier, later = scores[:, : stop - 1 - first, :-1], scores[:, start + 1 - first :, 1:]
        total = plus(total, earlier, (1, 0, total.shape[1] - earlier.shape[1], 0))
        return plus(total, later, (0, 1, 0, total.shape[1] - later.shape[1]))


def plus(total: Tensor, part: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """`total` with `part` added where the padding (left, right, top, bottom) leaves room for it.

    In place where nothing forbids it: scores are large, and a padded copy costs more than the sum.
    """
    if torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
        return total + F.pad(part, padding)
    left, right, top, bottom = padding
    height, width = total.shape[-2:]
    total[..., top : height - bottom, left : width - right] += part
    return total
