"""The colour scales of public checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def plane(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(3, 1, 1)


def to_imagenet(image: Tensor) -> Tensor:
    """[0, 1] -> zero mean and unit deviation over ImageNet."""
    return (image - plane(MEAN, image)) / plane(DEVIATION, image)


def from_imagenet(image: Tensor) -> Tensor:
    return image * plane(DEVIATION, image) + plane(MEAN, image)
