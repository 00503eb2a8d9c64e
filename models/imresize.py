"""The bicubic resize that super-resolution is measured with.

Enlarging uses Keys' kernel (a = -0.5); reducing stretches it by the factor, which is the antialiasing. Two
details decide whether the numbers of papers can be met: the picture is rounded to uint8 between the vertical
and the horizontal pass, and borders repeat their last pixel.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def taps(length: int, out: int, scale: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each of `out` pixels the input positions it reads, and their weights: both (out, taps)."""
    shrink = min(scale, 1.0)
    support = 4 / shrink
    centre = (np.arange(out) + 0.5) / scale - 0.5
    first = np.floor(centre - support / 2)
    index = first[:, None] + np.arange(math.ceil(support) + 2)
    weight = shrink * cubic(shrink * (centre[:, None] - index))
    weight /= weight.sum(1, keepdims=True)
    used = np.any(np.abs(weight) > 0, axis=0)
    clamped = np.clip(index[:, used], 0, length - 1).astype(np.intp)
    return clamped, weight[:, used].astype(np.float32)


@lru_cache(maxsize=64)
def matrix(length: int, out: int, scale: float) -> npt.NDArray[np.float32]:
    """One pass as a product. The matrix is banded, but for photographs that is faster than gathering."""
    index, weight = taps(length, out, scale)
    answer = np.zeros((out, length), np.float32)
    np.add.at(answer, (np.arange(out)[:, None], index), weight)
    return answer


def _rows(image: Image, out: int, scale: float) -> Image:
    flat = image.reshape(image.shape[0], -1).astype(np.float32)
    rounded = np.floor(matrix(image.shape[0], out, scale) @ flat + 0.5)
    return np.clip(rounded, 0, 255).astype(np.uint8).reshape(out, *image.shape[1:])


def imresize(image: Image, scale: float, out_size: tuple[int, int] | None = None) -> Image:
    """`image` (H, W) or (H, W, C) resized by `scale`; without `out_size` sides are rounded up."""
    height, width = out_size or tuple(math.ceil(side * scale - 1e-9) for side in image.shape[:2])
    vertical = _rows(image, height, scale)
    turned = np.ascontiguousarray(np.swapaxes(vertical, 0, 1))
    return np.ascontiguousarray(np.swapaxes(_rows(turned, width, scale), 0, 1))
