"""Sliced Wasserstein distances of patches: the same set of patches, wherever each one lies.

L1 alone makes what cannot be known the mean of all that might be there, which is flat and blurred. A set of
patches has no places, so a fill can match it with texture and contrast of its own (after GPDM, ECCV 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE, DIRECTIONS, PLACES = 7, 16, 4096
DETAIL = 3.0  # what detail counts more than colour, as it is so much fainter
SMALLER = 4


def patches(fill: Tensor, truth: Tensor, mask: Tensor, chance: torch.Generator) -> Tensor:
    """Between the patches around places of the hole, drawn anew at each call as are the directions."""
    return apart(fill, truth, mask, PLACES, with_detail, chance)


def contrast(fill: Tensor, truth: Tensor, mask: Tensor, chance: torch.Generator) -> Tensor:
    """The same in pictures too small for detail: colours and light as far apart as in the truth."""
    fill, truth, mask = (F.avg_pool2d(each, SMALLER) for each in (fill, truth, mask))
    hole = (mask > 0.5).float() + 1e-8  # a scratch may be too thin for any place
    return apart(fill, truth, hole, PLACES // SMALLER, directions, chance)


def apart(
    fill: Tensor,
    truth: Tensor,
    hole: Tensor,
    count: int,
    make: Callable[[torch.Generator], Tensor],
    chance: torch.Generator,
) -> Tensor:
    places = torch.multinomial(hole.flatten(1).cpu(), count, replacement=True, generator=chance)
    kernels = make(chance).to(fill.device)
    index = places.to(fill.device)[:, None].expand(-1, len(kernels), -1)
    both = [
        F.conv2d(picture, kernels, padding=SIDE // 2).flatten(2).gather(2, index).sort(2).values
        for picture in (fill, truth)
    ]
    return (both[0] - both[1]).abs().mean()


def directions(chance: torch.Generator) -> Tensor:
    """Random unit vectors in the space of patches."""
    return unit(torch.randn(DIRECTIONS, 3, SIDE, SIDE, generator=chance))


def with_detail(chance: torch.Generator) -> Tensor:
    """Directions of which every other one sees no more than detail."""
    plain = torch.randn(DIRECTIONS, 3, SIDE, SIDE, generator=chance)
    smooth = F.avg_pool2d(plain, 3, 1, 1, count_include_pad=False)
    return torch.cat([unit(plain[::2]), DETAIL * unit((plain - smooth)[1::2])])


def unit(kernels: Tensor) -> Tensor:
    return kernels / kernels.flatten(1).norm(dim=1)[:, None, None, None]
