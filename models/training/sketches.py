"""Sketches to train guidance with: the picture's own edges, some of them left out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.canny import thinned
from models.layers.colours import luma

THRESHOLD = 0.12  # gradient of the blurred luma, in grey levels of [0, 1] a pixel


def edges(image: Tensor) -> Tensor:
    """(B, 1, H, W) in {0, 1}: thin lines where luma changes most, as Canny's detector finds them."""
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=image.device) / 16
    soft = F.conv2d(F.pad(luma(image), (2, 2, 2, 2), mode="replicate"), line.view(1, 1, 5, 1) * line)
    padded = F.pad(soft, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    strength = torch.sqrt(across.square() + down.square() + 1e-12)
    return (thinned(strength, across, down) & (strength > THRESHOLD)).to(image.dtype)


def drop(sketch: Tensor, kept: float, generator: torch.Generator | None = None) -> Tensor:
    """Whole samples lose their sketch, others parts of it: people draw a few lines, or none."""
    count = sketch.shape[0]
    device = sketch.device
    whole = torch.rand(count, 1, 1, 1, generator=generator).to(device) < kept
    cells = torch.rand(count, 1, 4, 4, generator=generator).to(device) < 0.7
    parts = F.interpolate(cells.to(sketch.dtype), sketch.shape[-2:], mode="nearest")
    return sketch * whole * parts
