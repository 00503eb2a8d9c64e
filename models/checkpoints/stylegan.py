"""The scaling at run time of StyleGAN2's descendants, which our networks have in their weights."""

from __future__ import annotations

from torch import Tensor

RATE = 0.01  # of the mapping's parameters


def factor(key: str, value: Tensor) -> float:
    """What the public code multiplies a parameter of ours by."""
    rate = RATE if key.startswith("mapping.") else 1.0
    if key.endswith(".bias"):
        return rate
    if key.endswith(".weight"):
        return rate * float(value[0].numel()) ** -0.5
    return 1.0
