"""Bicubic resizing of tensors at any factor, of any region, from any tile."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from models.layers.placement import Axis


def cubic(x: Tensor) -> Tensor:
    """Keys' kernel, a = -0.5."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


@lru_cache(maxsize=32)  # the tiles of a row have one, as do pictures of one size
def matrix(axis: Axis, origin: int, length: int, device: torch.device) -> Tensor:
    """(count, length): each enlarged pixel's weights over a tile that begins at small pixel `origin`.

    Pixel centres are aligned, as in the standard resize. A tap outside the tile takes its border pixel: at a
    picture's border that is the standard rule, elsewhere tiles overlap by more than a tap. A factor below 1
    stretches the kernel, which is the antialiasing. Not to be written to.
    """
    with torch.inference_mode(False), torch.no_grad():  # who asks first may not learn; those later may
        return weights(axis, origin, length, device)


def weights(axis: Axis, origin: int, length: int, device: torch.device) -> Tensor:
    shrink = min(axis.period / axis.step, 1.0)
    pixels = torch.arange(axis.start, axis.start + axis.count, dtype=torch.float64, device=device)
    centre = (pixels + 0.5) * (axis.step / axis.period) - 0.5 - origin
    reach = math.ceil(2 / shrink)
    first = centre.floor() - (reach - 1)
    taps = first[:, None] + torch.arange(2 * reach, device=device)
    weight = cubic(shrink * (centre[:, None] - taps))
    if shrink < 1:
        weight = weight / weight.sum(1, keepdim=True)
    answer = torch.zeros(axis.count, length, dtype=torch.float64, device=device)
    return answer.scatter_add_(1, taps.long().clamp(0, length - 1), weight).float()


def resize(image: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int]) -> Tensor:
    vertical = matrix(rows, origin[0], image.shape[-2], image.device).to(image.dtype)
    horizontal = matrix(columns, origin[1], image.shape[-1], image.device).to(image.dtype)
    # Autocast would round colours to half precision, which has fewer levels than a picture.
    with torch.autocast(image.device.type, enabled=False):
        return vertical @ image @ horizontal.t()
