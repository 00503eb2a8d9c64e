"""Repetition: the hole filled with the picture moved by its dominant offsets (after He and Sun, ECCV 2012).

How alike a hole's surroundings are to the picture moved by every offset is one correlation; its peaks are the
offsets at which facades, tiles and fences repeat. Each pixel of the hole takes the one under which what is
known round it is best explained. Offsets are found where the picture is small.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.smooth import blur, smooth_fill

SMALL = 256  # pixels a side at most, where offsets are looked for
OFFSETS = 16
DETAIL, NOISE = 6.0, 0.03  # pixels: coarser is no detail; deviation: fainter is none either
ROUND, CELL = 8.0, 4  # pixels: so far round each pixel the picture is compared, for so many a side at once
FAINT = 0.25  # of the usual power of detail: where there is less, there is nothing to be alike
TINT = 0.2  # of the range: colours that differ by so much in the mean are as bad as details quite unlike
COVERED = 0.15  # an offset must bring at least this share of the hole
UNLIKE, ALIKE = 0.45, 0.75  # local correlations: none of the copy is believed, and all of it


def detail(image: Tensor, known: Tensor) -> Tensor:
    """What of `image` is finer than DETAIL, brought to unit deviation everywhere; 0 where it is unknown."""
    weight = blur(known, DETAIL).clamp(min=1e-3)
    fine = (image - blur(image * known, DETAIL) / weight) * known
    power = blur(fine.square().mean(1, True), DETAIL) / weight
    return fine / (power + NOISE**2).sqrt()


def correlated(moving: Tensor, still: Tensor) -> Tensor:
    """(H', W'): the sum over x of still(x) moving(x + offset), for every offset, cyclic in a padded plane."""
    size = [2 * side for side in still.shape[-2:]]
    spectrum = torch.fft.rfft2(moving, s=size) * torch.fft.rfft2(still, s=size).conj()
    return torch.fft.irfft2(spectrum.sum(0), s=size)


def dominant(fine: Tensor, known: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the OFFSETS best peaks, and their correlations; (C, H, W), (H, W), (H, W).

    `near` says how much each pixel counts: what lies round the hole does.
    """
    overlap = correlated(known[None], (near * known)[None])
    brought = correlated(known[None], (1 - known)[None]) / (1 - known).sum().clamp(min=1)
    score = correlated(fine, fine * near) / overlap.clamp(min=1e-3)
    usable = (brought > COVERED) & (overlap > 0.25 * (near * known).sum())
    # The plane is cyclic, and so are neighbours.
    top = F.max_pool2d(F.pad(score[None, None], (2, 2, 2, 2), mode="circular"), 5, 1)[0, 0]
    score = torch.where(usable & (score >= top), score, -1.0)
    best, place = score.flatten().topk(OFFSETS)
    row, column = place // score.shape[1], place % score.shape[1]
    row = torch.where(row > score.shape[0] // 2, row - score.shape[0], row)
    column = torch.where(column > score.shape[1] // 2, column - score.shape[1], column)
    return row, column, best


def moved(planes: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """(K, C, H, W): `planes` (C, H, W) read at each pixel plus each offset; beyond the border, its edge."""
    height, width = planes.shape[-2:]
    down = (torch.arange(height, device=planes.device) + row[:, None]).clamp(0, height - 1)
    across = (torch.arange(width, device=planes.device) + column[:, None]).clamp(0, width - 1)
    return planes.flatten(1)[:, down[:, :, None] * width + across[:, None, :]].transpose(0, 1)


def inside(height: int, width: int, row: Tensor, column: Tensor) -> Tensor:
    """(K, 1, H, W): whether each pixel plus each offset lies in the picture."""
    down = torch.arange(height, device=row.device) + row[:, None]
    across = torch.arange(width, device=row.device) + column[:, None]
    rows, columns = (down >= 0) & (down < height), (across >= 0) & (across < width)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def repeated(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The hole of one picture (1, C, H, W) as its repetition has it, and how far that is to be believed."""
    factor = -(-max(image.shape[-2:]) // SMALL)
    share = F.avg_pool2d(1 - mask, factor, ceil_mode=True)
    small = F.avg_pool2d(image, factor, ceil_mode=True) / share.clamp(min=1e-6)
    known = (share > 1 - 1e-4).float()
    height, width = known.shape[-2:]
    fine = detail(small, known)
    row, column, best = dominant(fine[0], known[0, 0], blur(1 - known, 2 * ROUND)[0, 0])
    both = moved(known[0], row, column) * inside(height, width, row, column)
    there, compared = moved(fine[0], row, column), both * known
    product = (fine * there).mean(1, True) * compared
    power = 0.5 * (fine.square() + there.square()).mean(1, True) * compared
    # What is compared lies round the hole; inside it holds what its rim says.
    shared = local(compared).clamp(min=1e-2)
    alike = local(product) / torch.maximum(local(power), FAINT * shared)
    tint = local((small - moved(small[0], row, column)) * compared) / shared
    alike = alike - tint.square().mean(1, True) / TINT**2
    alike = smooth_fill(alike, (shared < 0.05).float(), unknown=0.0)
    alike = F.interpolate(alike, scale_factor=float(CELL), mode="bilinear")[..., :height, :width]
    alike = torch.where((both > 0) & (best.view(-1, 1, 1, 1) > 0), alike, -1.0)
    correlation, label = alike.max(0, keepdim=True)
    belief = ((correlation - UNLIKE) / (ALIKE - UNLIKE)).clamp(0, 1)
    label, belief = (enlarged(each, factor, image) for each in (label.float(), belief))
    at = label[0, 0].long()
    height, width = image.shape[-2:]
    down = (torch.arange(height, device=image.device)[:, None] + factor * row[at]).clamp(0, height - 1)
    across = (torch.arange(width, device=image.device) + factor * column[at]).clamp(0, width - 1)
    copy = image.flatten(2)[..., down * width + across]
    return copy + smooth_fill(image - copy, mask, unknown=0.0), belief


def local(x: Tensor) -> Tensor:
    """The mean of ROUND pixels round each cell of CELL by CELL."""
    return blur(F.avg_pool2d(x, CELL, ceil_mode=True), ROUND / CELL)


def enlarged(x: Tensor, factor: int, like: Tensor) -> Tensor:
    whole = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return whole[..., : like.shape[-2], : like.shape[-1]]
