"""Fills into pictures: outside the blend nothing changes, not by one bit."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from service.imaging.picture import Picture, Pixels, to_bytes
from service.imaging.windows import Box


def paste(canvas: Pixels, fill: Pixels, box: Box, blend: npt.NDArray[np.float32]) -> None:
    """Put `fill` (of the box's size, or padded) into `canvas` as far as `blend` (the canvas') says."""
    target = canvas[box.slices]
    weight = blend[box.slices]
    fill = fill[: box.height, : box.width]
    whole = weight >= 1
    cv2.copyTo(fill, whole.view(np.uint8), target)
    partly = (weight > 0) & ~whole
    if partly.any():
        share = weight[partly][:, None]
        mixed = target[partly] * (1 - share) + fill[partly] * share
        target[partly] = np.rint(mixed).astype(canvas.dtype)


def flatten(picture: Picture) -> npt.NDArray[np.uint8]:
    """8-bit colour over white, for formats without transparency."""
    pixels = to_bytes(picture.pixels)
    if picture.alpha is None:
        return pixels
    alpha = to_bytes(picture.alpha).astype(np.uint16)[..., None]
    return ((pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
