"""Contours that end at a hole's rim, matched in pairs across it and continued: horizons, roofs, wires.

Two ends belong together where each points at the other and the colours on their sides agree. Ends are few,
so all pairs are compared at once; those that choose each other are joined by a curve that leaves both along
their own directions, and what lies across the contour at its ends is swept along the curve.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.layers.canny import sobel, thinned
from models.layers.colours import luma
from models.layers.patch_field import spread
from models.layers.smooth import blur

ENDS, PAIRS = 64, 8  # as many are looked at, the steepest first; as many are continued, the likeliest first
SIGMA = 1.5  # pixels: contours are looked for in a picture so soft
AWAY = 4  # pixels from the rim, where a contour's direction and its sides are seen undisturbed by the hole
SIDES = 4.0  # pixels to each side of a contour, where its colours are compared
STEEP = 0.15  # of the Sobel gradient of a picture in [0, 1]
STRAIGHT = 0.94  # cosine between an end's direction and the way to the other one
APART = 0.5  # of a contour's contrast: so far the colours of two ends may differ
WIDTH, REACH = 5.0, 12  # pixels from a contour: how far what is swept is believed, and where it ends
BEHIND = (1.0, 3.0, 5.0)  # pixels before the end, where the colours across a contour are taken


def continued(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What contours of one picture bring into its hole, and how far that is to be believed."""
    at, into, steep, soft = ends(image, mask)
    number, other, likely = pairs(at, into, steep, soft)
    return swept(image, mask, at[number], into[number], at[other], into[other], likely)


def ends(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where contours end (N, 2), their directions into the hole (N, 2), how steep they are; the soft picture.

    Points and directions are rows and columns.
    """
    hole, known = mask[0, 0] > 0.5, 1 - mask
    soft = blur(image, SIGMA) / blur(known, SIGMA).clamp(min=1e-4)
    right, down = sobel(luma(soft))
    strength = torch.sqrt(right.square() + down.square() + 1e-12)
    ring = spread(hole, AWAY + 1) & ~spread(hole, AWAY)
    edge = ring & thinned(strength, right, down)[0, 0] & (strength[0, 0] > STEEP)
    steep, place = torch.where(edge, strength[0, 0], 0.0).flatten().topk(ENDS)
    at = torch.stack([place // hole.shape[1], place % hole.shape[1]], 1).float()
    products = torch.cat([right.square(), right * down, down.square()], 1) * known
    xx, xy, yy = blur(products, 2.0).flatten(2)[0][:, place]
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)  # of the gradient, from the axis of columns
    along = torch.stack([angle.cos(), -angle.sin()], 1)
    inward = torch.cat(sobel(blur(mask, 3.0)), 1).flatten(2)[0][:, place].T.flip(1)
    into = along * torch.where((along * inward).sum(1, keepdim=True) < 0, -1.0, 1.0)
    return at, into, steep, soft


def pairs(at: Tensor, into: Tensor, steep: Tensor, soft: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of the first and second ends of the PAIRS likeliest pairs, and whether they are any."""
    left, right = (taken(soft, at - 2 * into + side * turned(into)) for side in (SIDES, -SIDES))
    contrast = (left - right).square().sum(1).sqrt()
    way = at[None] - at[:, None]  # from the first to the second
    length = way.square().sum(2).sqrt().clamp(min=1.0)
    straight = (way * into[:, None]).sum(2) / length
    bend = torch.minimum(straight, straight.T)
    # What lies left of a contour to somebody who enters by it lies right to who enters by its other end.
    crossed = (left[:, None] - right[None]).square().sum(2)
    apart = (crossed + crossed.T).sqrt() / torch.minimum(contrast[:, None], contrast[None]).clamp(min=1e-3)
    real = (steep[:, None] > 0) & (steep[None] > 0)
    fits = real & (bend > STRAIGHT) & (apart < APART) & (length > 2 * AWAY)
    cost, best = torch.where(fits, 1 - bend + 0.2 * apart, torch.inf).min(1)
    number = torch.arange(len(at), device=at.device)
    cost = torch.where((best[best] == number) & (number < best), cost, torch.inf)
    cost, first = cost.topk(PAIRS, largest=False)
    return first, best[first], cost.isfinite()


def swept(
    image: Tensor, mask: Tensor, start: Tensor, leaving: Tensor, end: Tensor, facing: Tensor, likely: Tensor
) -> tuple[Tensor, Tensor]:
    """The colours across the ends of each pair, moved along a curve from one to the other."""
    height, width = mask.shape[-2:]
    known = torch.cat([image, 1 - mask], 1)
    profiles = [across(known, start, leaving), across(known, end, -facing)]
    length = (end - start).square().sum(1, keepdim=True).sqrt().clamp(min=1.0)
    ahead = (end - start) / length
    aside = turned(ahead)
    # How steeply the curve leaves the straight way at its start, and how it comes back to it.
    leaves, returns = ((each * aside).sum(1) / (each * ahead).sum(1) for each in (leaving, facing))
    rows = torch.arange(height, device=image.device)[:, None]
    columns = torch.arange(width, device=image.device)
    nearest = torch.full((height, width), REACH + 1.0, device=image.device)
    share, number = torch.zeros_like(nearest), torch.zeros_like(nearest, dtype=torch.long)
    for pair in range(len(start)):
        down, right = rows - start[pair, 0], columns - start[pair, 1]
        along = (down * ahead[pair, 0] + right * ahead[pair, 1]) / length[pair]
        bow = along * (1 - along) * ((1 - along) * leaves[pair] - along * returns[pair]) * length[pair]
        away = down * aside[pair, 0] + right * aside[pair, 1] - bow
        nearer = likely[pair] & (along > 0) & (along < 1) & (away.abs() < nearest.abs())
        nearest, share = torch.where(nearer, away, nearest), torch.where(nearer, along, share)
        number = torch.where(nearer, pair, number)
    at = ((nearest + REACH) * 2).round().long().clamp(0, 4 * REACH)
    first, second = (profile.transpose(0, 1)[:, number, at] for profile in profiles)
    colour = (first * (1 - share) + second * share)[None]
    belief = torch.exp(-nearest.square() / (2 * WIDTH**2)) * (nearest < REACH) * (colour[:, -1:] > 0.1)
    return colour[:, :-1] / colour[:, -1:].clamp(min=1e-6), belief


def across(picture: Tensor, at: Tensor, along: Tensor) -> Tensor:
    """(N, C, 4 REACH + 1): `picture` across a contour's end, every half pixel, a little before it."""
    away = torch.arange(-2 * REACH, 2 * REACH + 1, device=at.device)[:, None] / 2
    lines = [(at - step * along)[:, None] + away * turned(along)[:, None] for step in BEHIND]
    found = torch.stack([taken(picture, line.flatten(0, 1)) for line in lines]).mean(0)
    return found.view(len(at), len(away), -1).transpose(1, 2)


def turned(way: Tensor) -> Tensor:
    """By a right angle."""
    return torch.stack([way[..., 1], -way[..., 0]], -1)


def taken(picture: Tensor, at: Tensor) -> Tensor:
    """(N, C): `picture` at the nearest pixels, within it."""
    height, width = picture.shape[-2:]
    row, column = at[:, 0].round().long().clamp(0, height - 1), at[:, 1].round().long().clamp(0, width - 1)
    return picture.flatten(2)[0][:, row * width + column].T
