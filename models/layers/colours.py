"""The colour scales of public checkpoints, and how bright colours look."""

from __future__ import annotations

from torch import Tensor

from models.layers.constants import constant

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # BT.601


def plane(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return constant(values, like).view(3, 1, 1)


def luma(image: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    return (image * plane(LUMA, image)).sum(1, True)


def to_imagenet(image: Tensor) -> Tensor:
    """[0, 1] -> zero mean and unit deviation over ImageNet."""
    return (image - plane(MEAN, image)) / plane(DEVIATION, image)


def from_imagenet(image: Tensor) -> Tensor:
    return image * plane(DEVIATION, image) + plane(MEAN, image)
