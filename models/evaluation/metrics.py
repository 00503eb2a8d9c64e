"""Distances between pictures, on the 0 to 255 scale.

Numbers are only comparable with published ones if luma, window and border are exactly the usual ones: BT.601
luma in its 16 to 235 range, and an 11x11 Gaussian of sigma 1.5 that never leaves the picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
Plane = npt.NDArray[np.float64]

LUMA = np.array([65.481, 128.553, 24.966]) / 255  # BT.601, of RGB in 0..255
WINDOW, SIGMA = 11, 1.5
SMALL_MEAN, SMALL_VARIANCE = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def luma(picture: Pixels) -> Plane:
    """Y of YCbCr, unrounded, of an RGB picture (H, W, 3)."""
    answer: Plane = picture.astype(np.float64) @ LUMA + 16
    return answer


def shave(plane: Pixels, border: int) -> Pixels:
    return plane[border : plane.shape[0] - border, border : plane.shape[1] - border]


def psnr(one: Pixels, other: Pixels) -> float:
    """In dB; infinite for equal pictures."""
    error = float(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(one: Pixels, other: Pixels) -> float:
    """Structural similarity of two planes (H, W), or the mean over the channels of (H, W, C)."""
    if min(one.shape[:2]) < WINDOW:
        raise ValueError(f"structural similarity needs at least {WINDOW} pixels a side")
    a, b = one.astype(np.float64), other.astype(np.float64)
    mean_a, mean_b = blur(a), blur(b)
    variance_a = blur(a * a) - mean_a**2
    variance_b = blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + SMALL_MEAN) * (2 * covariance + SMALL_VARIANCE)
    size = (mean_a**2 + mean_b**2 + SMALL_MEAN) * (variance_a + variance_b + SMALL_VARIANCE)
    return float(np.mean(likeness / size))


def blur(plane: Plane) -> Plane:
    """Where the whole Gaussian window fits."""
    distance = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(distance**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        length = plane.shape[axis] - WINDOW + 1
        lines = np.moveaxis(plane, axis, 0)
        summed = sum(weight * lines[start : start + length] for start, weight in enumerate(weights))
        plane = np.moveaxis(np.asarray(summed), 0, axis)
    return plane
