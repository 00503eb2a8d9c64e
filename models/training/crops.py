"""Random crops and their small copies, made where the network is: a GPU would wait for any CPU's."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from models.imresize import matrix
from models.training.errors import TrainingError
from models.training.pictures import Pictures

CLOSEST = 0.5  # of a picture's shorter side: closer crops show no scene any more


class Crops:
    """All pictures as one tensor of pixels on the device, of which a batch of crops is one lookup."""

    def __init__(self, pictures: Pictures, device: torch.device) -> None:
        self.device = device
        # On the CPU this maps the file, and reads no more of it than is asked for.
        size = int(pictures.starts[-1])
        values = torch.from_file(str(pictures.file), size=size, dtype=torch.uint8)
        self.pixels = values.view(-1, 3).to(device)
        self.shapes = np.array(pictures.shapes)
        self.starts = np.asarray(pictures.starts[:-1]) // 3

    def take(self, rng: np.random.Generator, count: int, side: int) -> Tensor:
        """(count, 3, side, side) bytes, flipped and turned at random."""
        chosen = self.choose(rng, count, side)
        height, width = self.shapes[chosen].T
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        # Where a crop's first pixel lies, and how far apart its rows and columns are: a flip begins at the
        # other end and steps back, a turn swaps the two.
        down, across = np.array(width), np.ones(count, np.int64)
        first = self.starts[chosen] + top * width + left
        upside, mirrored, turned = rng.random((3, count)) < 0.5
        first = first + upside * (side - 1) * down + mirrored * (side - 1) * across
        down, across = np.where(upside, -down, down), np.where(mirrored, -across, across)
        down, across = np.where(turned, across, down), np.where(turned, down, across)
        where = sent(np.stack([first, down, across]), self.device)
        first_, down_, across_ = where[:, :, None, None]
        steps = torch.arange(side, device=self.device)
        index = first_ + down_ * steps[:, None] + across_ * steps
        return self.pixels[index].permute(0, 3, 1, 2)

    def scenes(self, rng: np.random.Generator, count: int, side: int) -> Tensor:
        """(count, 3, side, side) bytes: squares of every size, at most halved, mirrored at random."""
        chosen = self.choose(rng, count, side)
        height, width = self.shapes[chosen].T
        largest = np.minimum(np.minimum(height, width), 2 * side)
        closest = np.maximum(side, (CLOSEST * largest).astype(int))
        square = rng.integers(closest, largest + 1)
        top, left = rng.integers(height - square + 1), rng.integers(width - square + 1)
        first = self.starts[chosen] + top * width + left
        mirrored = rng.random(count) < 0.5
        where = sent(np.stack([first, width, square, mirrored]), self.device)
        first_, down_, square_, mirrored_ = where[:, :, None, None]
        # Each pixel is the mean of the four nearest to its quarters' middles: exact where the square is as
        # large as the answer or twice that, close enough between.
        steps = (2 * torch.arange(2 * side, device=self.device) + 1) * square_ // (4 * side)
        across = torch.where(mirrored_ > 0, square_ - 1 - steps, steps)
        fine = self.pixels[first_ + down_ * steps.transpose(1, 2) + across].permute(0, 3, 1, 2)
        return round_to_bytes(F.avg_pool2d(fine.float(), 2)).to(torch.uint8)

    def choose(self, rng: np.random.Generator, count: int, side: int) -> npt.NDArray[np.intp]:
        fitting = np.flatnonzero(self.shapes.min(1) >= side)
        if not len(fitting):
            raise TrainingError(f"no picture has {side} pixels on its shorter side")
        return fitting[rng.integers(len(fitting), size=count)]


def sent(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """On the device; from pinned memory a GPU need not be waited for."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def degrade(images: Tensor, scale: Fraction, side: int) -> Tensor:
    """Square byte images (N, C, H, H) made `scale` times smaller, as `imresize` does it."""
    down = passes(images.shape[-1], side, scale, images.device)
    tall = round_to_bytes(down @ images.float())
    return round_to_bytes(tall @ down.t()).to(torch.uint8)


def round_to_bytes(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)


@lru_cache(maxsize=64)
def passes(length: int, out: int, scale: Fraction, device: torch.device) -> Tensor:
    return torch.from_numpy(matrix(length, out, float(1 / scale))).to(device)
