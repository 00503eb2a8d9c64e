"""Masks and sketches of every convention into ours: 255 in the hole, 255 on a line."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import Unprocessable
from service.imaging.decode import decode
from service.imaging.limits import Limits
from service.imaging.picture import Picture, Pixels, to_bytes

Plane = npt.NDArray[np.uint8]
HALF = 128  # from here on a soft mask counts as hole


def luma(picture: Picture) -> Plane:
    if picture.gray:
        return to_bytes(picture.pixels[..., 0])
    return cv2.cvtColor(to_bytes(picture.pixels), cv2.COLOR_RGB2GRAY).astype(np.uint8)


def over(picture: Picture, background: int) -> Plane:
    """Brightness with transparent parts showing `background`."""
    bright = luma(picture)
    if picture.alpha is None:
        return bright
    alpha = to_bytes(picture.alpha).astype(np.uint16)
    return ((bright * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8)


def hole_from_alpha(picture: Picture) -> Plane | None:
    """What is transparent, as a hole; None where the picture has no transparency."""
    if picture.alpha is None:
        return None
    hole = 255 - to_bytes(picture.alpha)
    return hole if hole.any() else None


def without_hidden_colours(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Where nothing is seen, the colour of the nearest pixel that is: enlarged, it reaches what is seen."""
    hidden = np.equal(alpha, 0)
    if hidden.all() or not hidden.any():
        return pixels
    _, nearest = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((nearest.max() + 1, 3), pixels.dtype)
    colours[nearest[~hidden]] = pixels[~hidden]
    return colours[nearest]


def check_size(picture: Picture, size: tuple[int, int], what: str) -> None:
    if picture.size != size:
        raise Unprocessable(
            f"The {what} is {picture.width}x{picture.height} pixels, but the picture (upright) is "
            f"{size[1]}x{size[0]}; they must be the same."
        )


def decode_mask(data: bytes, mode: str, size: tuple[int, int], limits: Limits) -> Plane:
    """The hole of a mask file, 255 in it.

    `auto` takes a mask's transparency where it has any, and its bright parts otherwise.
    """
    picture = decode(data, limits)
    check_size(picture, size, "mask")
    transparent = hole_from_alpha(picture)
    if mode == "alpha" or (mode == "auto" and transparent is not None):
        if transparent is None:
            raise Unprocessable("mask_mode is 'alpha', but nothing in the mask is transparent.")
        return transparent
    return 255 - over(picture, 255) if mode == "black" else over(picture, 0)


def decode_sketch(data: bytes, size: tuple[int, int], limits: Limits) -> Plane:
    """Lines as 255, whether drawn dark on light, light on dark, or on nothing.

    Lines are the rarer kind of pixel, so the majority is the paper.
    """
    picture = decode(data, limits)
    check_size(picture, size, "sketch")
    transparent = hole_from_alpha(picture)
    if transparent is not None:
        return np.where(transparent < HALF, 255, 0).astype(np.uint8)
    bright = over(picture, 255) >= HALF
    lines = ~bright if bright.mean() >= 0.5 else bright
    return np.where(lines, 255, 0).astype(np.uint8)


def shape_hole(mask: Plane, grow: int, feather: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """What the network fills, and how much of its answer each pixel takes.

    The hole is where the mask is at least half, grown or shrunk by a disc. A feather adds a band round it in
    which the answer fades out, so the network fills that band too.
    """
    hole = mask >= HALF
    if grow > 0 and hole.any():
        hole = distance_to(hole) <= grow
    elif grow < 0 and hole.any():
        hole = distance_to(~hole) > -grow
    blend = hole.astype(np.float32)
    if feather > 0 and hole.any():
        blend = np.clip(1 - distance_to(hole) / (feather + 1), 0, 1).astype(np.float32)
    return blend > 0, blend


def distance_to(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """For each pixel the distance to the nearest one of `region`; beyond any side where it is empty."""
    if not region.any():
        return np.full(region.shape, np.inf, np.float32)
    far = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return far.astype(np.float32, copy=False)
