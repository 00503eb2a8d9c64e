"""Sliced Wasserstein distance of small patches: the same set of patches, wherever each one lies.

L1 alone makes what cannot be known the mean of all that might be there, which is flat and blurred. A set of
patches has no places, so a fill can match it with texture and contrast of its own (after GPDM, ECCV 2022).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE, DIRECTIONS, PLACES = 7, 16, 4096
DETAIL = 3.0  # what detail counts more than colour, as it is so much fainter


def patches(fill: Tensor, truth: Tensor, mask: Tensor, chance: torch.Generator) -> Tensor:
    """Between the patches around places of the hole, drawn anew at each call as are the directions."""
    places = torch.multinomial(mask.flatten(1).cpu(), PLACES, replacement=True, generator=chance)
    kernels = directions(chance).to(fill.device)
    index = places.to(fill.device)[:, None].expand(-1, len(kernels), -1)
    both = [
        F.conv2d(picture, kernels, padding=SIDE // 2).flatten(2).gather(2, index).sort(2).values
        for picture in (fill, truth)
    ]
    return (both[0] - both[1]).abs().mean()


def directions(chance: torch.Generator) -> Tensor:
    """Random unit vectors in the space of patches; every other one sees no more than detail."""
    plain = torch.randn(DIRECTIONS, 3, SIDE, SIDE, generator=chance)
    smooth = F.avg_pool2d(plain, 3, 1, 1, count_include_pad=False)
    unit, fine = (
        kernels / kernels.flatten(1).norm(dim=1)[:, None, None, None] for kernels in (plain, plain - smooth)
    )
    return torch.cat([unit[::2], DETAIL * fine[1::2]])
