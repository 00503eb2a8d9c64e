"""Distances in the features of a pretrained network (models.features)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.features import perceptual_distance


def perceptual(ours: list[Tensor], truth: list[Tensor]) -> Tensor:
    return perceptual_distance(ours, truth).mean()


def gram(features: Tensor) -> Tensor:
    flat = features.float().flatten(2)
    return flat @ flat.mT / (flat.shape[1] * flat.shape[2])


def style(ours: list[Tensor], truth: list[Tensor]) -> Tensor:
    """L1 between the Gram matrices: the same texture, wherever it lies."""
    return torch.stack([F.l1_loss(gram(a), gram(b)) for a, b in zip(ours, truth, strict=True)]).sum()
