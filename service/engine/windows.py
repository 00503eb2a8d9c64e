"""What the engine computes: fixed-size pieces of pictures, whatever the pictures' own sizes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def peak(pixels: npt.NDArray[Any]) -> int:
    """The value that means full brightness."""
    return int(np.iinfo(pixels.dtype).max)


@dataclass(frozen=True, eq=False)
class InpaintWindow:
    pixels: Pixels  # (height, width, 3)
    hole: npt.NDArray[np.uint8]  # (height, width), 1 where pixels are to be made up
    sketch: npt.NDArray[np.uint8] | None = None  # (height, width), 1 on a line
    seed: int = 0  # of what a network draws at random, if it does

    @property
    def shape(self) -> Hashable:
        """Windows of one model and equal shape may share a batch."""
        return ("inpaint", self.pixels.shape, self.pixels.dtype.str, self.sketch is not None)

    @property
    def weight(self) -> float:
        """What the time on the device grows with, in megapixels."""
        return self.hole.size / 1e6


@dataclass(frozen=True, eq=False)
class UpscaleTile:
    """A tile with enough surroundings, and which part of its enlargement is wanted.

    `origin` places the tile in its picture, so that every tile samples the one continuous grid of the
    whole picture; `region` is (top, left, height, width) in output pixels of the whole picture.
    """

    pixels: Pixels  # (height, width, 3)
    scale: tuple[Fraction, Fraction]  # vertical, horizontal
    origin: tuple[int, int]
    region: tuple[int, int, int, int]

    @property
    def shape(self) -> Hashable:
        """The scale is not part of it: features do not depend on it, so all factors share a batch."""
        return ("upscale", self.pixels.shape, self.pixels.dtype.str)

    @property
    def weight(self) -> float:
        height, width = self.pixels.shape[:2]
        return (height * width + self.region[2] * self.region[3]) / 1e6


Window = InpaintWindow | UpscaleTile
