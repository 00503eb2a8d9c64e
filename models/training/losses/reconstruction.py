"""Distances to the picture that was there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def l1(
    answer: Tensor, truth: Tensor, mask: Tensor, hole: float, valid: float, weight: Tensor | None = None
) -> Tensor:
    """L1 over the hole and over the known part, each divided by its own area.

    `weight` says how much each place counts, as `discount` does.
    """
    difference = (answer - truth).abs().mean(1, keepdim=True)
    if weight is not None:
        difference = difference * weight
    inside = (difference * mask).sum() / mask.sum().clamp(min=1)
    known = 1 - mask
    outside = (difference * known).sum() / known.sum().clamp(min=1)
    return hole * inside + valid * outside


def discount(mask: Tensor, gamma: float, reach: int = 64) -> Tensor:
    """(B, 1, H, W): gamma to the power of each hole pixel's distance to the rim, 1 outside.

    Deep inside a large hole many answers are right, so the one that was there should count less.
    """
    left, depth = mask, torch.zeros_like(mask)
    for _ in range(reach):  # a look at whether anything is left would make each round wait for the GPU
        depth = depth + left
        left = 1 - F.max_pool2d(1 - left, 3, 1, 1)
    return gamma**depth


def pyramid(answers: list[Tensor], truth: Tensor) -> Tensor:
    """L1 of the side outputs of each scale against the picture at theirs (PEN-Net)."""
    losses = [
        F.l1_loss(answer, F.interpolate(truth, answer.shape[-2:], mode="bilinear", align_corners=True))
        for answer in answers
    ]
    return torch.stack(losses).mean()


def frequency(answer: Tensor, truth: Tensor) -> Tensor:
    """L1 between the spectra: texture of the right strength, wherever exactly it lies."""
    ours, theirs = (torch.fft.rfft2(x.float(), norm="ortho").abs() for x in (answer, truth))
    return F.l1_loss(ours, theirs)


def total_variation(composite: Tensor, mask: Tensor) -> Tensor:
    """Differences of neighbours in the hole and across its rim."""
    near = F.max_pool2d(mask, 3, 1, 1)
    down = ((composite[..., 1:, :] - composite[..., :-1, :]) * near[..., 1:, :] * near[..., :-1, :]).abs()
    across = ((composite[..., 1:] - composite[..., :-1]) * near[..., 1:] * near[..., :-1]).abs()
    return down.mean() + across.mean()
