"""Point-wise normalisation (Zhu et al., 2021): scaled and shifted anew at every point, by another feature."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PointwiseNorm(nn.Module):
    """Batch normalisation whose scale and shift are maps, predicted from a `condition` of the same size."""

    def __init__(self, channels: int, conditions: int, hidden: int = 128) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared = nn.Conv2d(conditions, hidden, 3, padding=1)
        self.scale = nn.Conv2d(hidden, channels, 3, padding=1)
        self.shift = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shared = F.relu(self.shared(condition))
        return self.norm(x) * (1 + self.scale(shared)) + self.shift(shared)
