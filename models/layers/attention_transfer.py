"""Attention transfer (Zeng et al., CVPR 2019): a shallow map rebuilt as its deeper map suggests.

Every patch of the deeper map asks all known ones which it resembles, and the answer is put together from the
4x4 patches of the shallow map that lie under them. The public code makes each sample's patches into
convolution filters in a loop; as matrix products the samples go together, and queries in bands bound the
memory. `tests` keep the formula and compare.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.contextual_attention import BAND_VALUES
from models.layers.pasting import pasted

SCALE = 10.0
LEAST = 1e-8  # what even an unusable patch contributes, in the public code


class AttentionTransfer(nn.Module):
    """Only keys have their length taken off, so that a score is no cosine. `kernel` is the matching's."""

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, shallow: Tensor, deep: Tensor, mask: Tensor) -> Tensor:
        """`shallow` has twice the sides of `deep`; `mask` (B, 1, H, W) is the picture's, 1 in the hole."""
        height, width = deep.shape[-2:]
        # Half precision would change which patches match: the softmax is all but a choice of one.
        queries = F.unfold(deep.float(), self.kernel, padding=self.kernel // 2)
        keys = queries / queries.square().sum(1, keepdim=True).sqrt().clamp(min=1e-4)
        usable = self.usable(mask.float(), (height, width))
        values = F.unfold(shallow, 4, stride=2, padding=1).float().transpose(1, 2)
        with torch.autocast(deep.device.type, enabled=False):
            patches = matched(queries.transpose(1, 2), keys * usable * SCALE, usable, values)
        return (pasted(patches, height, width) / 4).to(shallow.dtype)

    def usable(self, mask: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, 1, keys): 1 where a patch holds nothing of the hole, however little of it."""
        small = F.interpolate(mask, size, mode="bilinear", align_corners=True)
        worst = F.max_pool2d(small, self.kernel, 1, self.kernel // 2)
        return (worst == 0).to(mask.dtype).flatten(2)


def matched(queries: Tensor, keys: Tensor, usable: Tensor, values: Tensor) -> Tensor:
    """(B, queries, values' length), some queries at a time."""

    def answer(some: Tensor) -> Tensor:
        return ((some @ keys).softmax(-1) * usable).clamp(min=LEAST) @ values

    if torch.onnx.is_in_onnx_export():
        return answer(queries)  # a loop would freeze the number of bands
    band = max(1, BAND_VALUES // (queries.shape[0] * keys.shape[-1]))
    return torch.cat([answer(some) for some in torch.split(queries, band, 1)], 1)


class Fusion(nn.Module):
    """Four views of a map, ever wider, a quarter of the channels each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.views = nn.ModuleList(
            nn.Conv2d(channels, channels // 4, 3, padding=step, dilation=step) for step in (1, 2, 4, 8)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(torch.cat([view(x) for view in self.views], 1))
