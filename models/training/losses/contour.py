"""What foreground-aware learns by: equations (1), (2) and (5) of its paper."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def contour_content(logits: Tensor, truth: Tensor, hole: Tensor, weight: float) -> Tensor:
    """(1): cross entropy times the squared error, as few pixels are on a contour; `weight` is the hole's.

    Takes logits, for the logarithm of a rounded probability may be infinite.
    """
    error = (logits.sigmoid() - truth).square()
    each = error * F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (each * (weight * hole + 1 - hole)).mean()


def contours_content(coarse: Tensor, refined: Tensor, truth: Tensor, hole: Tensor, weight: float) -> Tensor:
    """(2): both outputs count alike."""
    return contour_content(coarse, truth, hole, weight) + contour_content(refined, truth, hole, weight)


def images_content(coarse: Tensor, refined: Tensor, truth: Tensor) -> Tensor:
    """(5): L1 of both outputs over the whole picture; of a pixel's colours the mean counts."""
    return F.l1_loss(coarse, truth) + F.l1_loss(refined, truth)
