"""A decoded picture: upright pixels, with what must come back with them kept aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]  # uint8 or uint16


@dataclass(frozen=True, eq=False)
class Picture:
    pixels: Pixels  # (height, width, 3) RGB, contiguous
    alpha: Pixels | None = None  # (height, width), of the same type as pixels
    gray: bool = False  # came as gray, and goes out as gray
    icc: bytes | None = None
    exif: bytes | None = None  # without the orientation, which has been applied

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def bits(self) -> int:
        return self.pixels.dtype.itemsize * 8


def to_bytes(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """The same pixels in 8 bits."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
