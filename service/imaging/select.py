"""An object's mask from clicks: GrabCut in a small copy, its edge refined in the picture.

A network that segments can take this one's place: a `Selector` is all that the route knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from service.imaging.picture import Pixels, to_bytes

Plane = npt.NDArray[np.uint8]
Point = tuple[int, int]  # column, row

WORKING = 256  # longest side of the copy in which the cut is made
ROUNDS = 2
DOT = 0.012  # a click's radius, in longest sides
REACH = (0.08, 0.16, 0.3)  # radii within which a clicked object is looked for, in longest sides
DARK, HUE = 0.75, 0.6  # a shadow's light at most, and how far its channels may differ, in shares
NEAR = 24.0  # a difference of colour (CIELAB) that still says "the same thing"


@dataclass(frozen=True)
class Hints:
    """What a caller has said of the object, in pixels of the picture."""

    inside: Sequence[Point]
    outside: Sequence[Point] = ()
    box: tuple[int, int, int, int] | None = None  # left, top, right, bottom; nothing of it lies outside
    shadow: bool = False


Selector = Callable[[Pixels, Hints], Plane]


def grab(pixels: Pixels, hints: Hints) -> Plane:
    """255 on the object that the hints are about."""
    image = cv2.cvtColor(to_bytes(pixels), cv2.COLOR_RGB2BGR)
    height, width = image.shape[:2]
    factor = min(1.0, WORKING / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cut = best_cut(small, hints, (size[0] / width, size[1] / height))
    if hints.shadow:
        cut = with_shadow(small, cut)
    return refined(image, cut) if factor < 1 else cut * np.uint8(255)


def best_cut(small: Pixels, hints: Hints, factors: tuple[float, float]) -> Plane:
    """The cut whose edge lies best on the picture's edges, of those begun at several sizes."""
    height, width = small.shape[:2]
    inside = dots(hints.inside, factors, (height, width))
    outside = dots(hints.outside, factors, (height, width)) & ~inside
    if hints.box:
        left, top, right, bottom = (round(value * factors[axis % 2]) for axis, value in enumerate(hints.box))
        beyond = np.ones((height, width), bool)
        beyond[top : max(top + 1, bottom), left : max(left + 1, right)] = False
        outside |= beyond & ~inside
    lab = colours(small)
    contrast = gradient(lab)
    starts = [start(lab, inside, outside, reach * max(height, width)) for reach in REACH]
    cuts = [connected(cut_from(small, begun), inside) for begun in starts]
    return max(cuts, key=lambda cut: edge_contrast(cut, contrast))


def colours(image: Pixels) -> npt.NDArray[np.float32]:
    """CIELAB, in which distances are those that eyes see."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB), np.float32)


def dots(
    points: Sequence[Point], factors: tuple[float, float], size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    plane = np.zeros(size, np.uint8)
    radius = max(1, round(DOT * max(size)))
    for column, row in points:
        cv2.circle(plane, (int(column * factors[0]), int(row * factors[1])), radius, 1, -1)
    return plane.astype(bool)


def start(
    lab: npt.NDArray[np.float32],
    inside: npt.NDArray[np.bool_],
    outside: npt.NDArray[np.bool_],
    reach: float,
) -> Plane:
    """A first guess: what is near the clicks, in place or in colour, may belong to the object."""
    away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    seeds = lab[inside]
    centres = seeds[:: max(1, len(seeds) // 12)]
    difference = np.min([np.linalg.norm(lab - centre, axis=2) for centre in centres], axis=0)
    guess = np.full(inside.shape, cv2.GC_PR_BGD, np.uint8)
    guess[(away < reach) | ((away < 2 * reach) & (difference < NEAR))] = cv2.GC_PR_FGD
    guess[away > 3 * reach] = cv2.GC_BGD
    guess[outside] = cv2.GC_BGD
    guess[inside] = cv2.GC_FGD
    return guess


def cut_from(small: Pixels, begun: Plane) -> Plane:
    labels = begun.copy()
    if not np.isin(labels, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        return np.ones(labels.shape, np.uint8)
    seen = near(labels != cv2.GC_BGD)
    cv2.setRNGSeed(0)  # equal questions get equal answers
    models = np.zeros((1, 65)), np.zeros((1, 65))
    part = np.ascontiguousarray(labels[seen])
    cv2.grabCut(np.ascontiguousarray(small[seen]), part, (0, 0, 0, 0), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    labels[seen] = part
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


def near(region: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The region's box with half as much again on each side: what is farther away only takes time."""
    box = cv2.boundingRect(region.astype(np.uint8))

    def along(start: int, length: int) -> slice:
        return slice(max(0, start - length // 2), start + length + length // 2)

    return along(box[1], box[3]), along(box[0], box[2])


def connected(cut: Plane, inside: npt.NDArray[np.bool_]) -> Plane:
    """The pieces that were clicked, without holes too small to be meant."""
    _, labels = cv2.connectedComponents(cut, connectivity=4)
    kept = np.isin(labels, np.unique(labels[inside & (cut > 0)])) & (cut > 0)
    count, gaps, stats, _ = cv2.connectedComponentsWithStats((~kept).astype(np.uint8), connectivity=4)
    for gap in range(1, count):
        if stats[gap, cv2.CC_STAT_AREA] < 0.01 * kept.sum():
            kept |= gaps == gap
    return kept.astype(np.uint8)


def gradient(lab: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How much the colour changes across each pixel."""
    across = np.linalg.norm(cv2.Sobel(lab, cv2.CV_32F, 1, 0, scale=0.25), axis=2)
    down = np.linalg.norm(cv2.Sobel(lab, cv2.CV_32F, 0, 1, scale=0.25), axis=2)
    return np.hypot(across, down).astype(np.float32)


def edge_contrast(cut: Plane, contrast: npt.NDArray[np.float32]) -> float:
    """The median change of colour along a cut's edge, less for a cut that takes much of the picture."""
    edge = cv2.morphologyEx(cut, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(bool)
    return float(np.median(contrast[edge]) * (1 - cut.mean())) if edge.any() else 0.0


def with_shadow(small: Pixels, cut: Plane) -> Plane:
    """And what lies beside it, darker than its surroundings in all channels nearly alike."""
    around = max(3, round(0.5 * np.sqrt(cut.sum())))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * around + 1, 2 * around + 1))
    beside = (cv2.dilate(cut, kernel) > 0) & (cut == 0)
    if not beside.any():
        return cut
    smooth = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1)
    light = smooth / np.maximum(np.percentile(smooth[beside], 65, axis=0), 1)
    mean = light.mean(2)
    dark = beside & (mean < DARK) & (np.ptp(light, axis=2) < HUE * mean)
    opened = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    both = cv2.morphologyEx(np.maximum(cut, opened), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    return connected(both.astype(np.uint8), cut.astype(bool))


def refined(image: Pixels, cut: Plane) -> Plane:
    """The cut at the picture's size, its edge drawn to the picture's by a guided filter."""
    height, width = image.shape[:2]
    soft = cv2.resize(cut.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    guide = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    radius = max(2, round(1.5 * max(height, width) / WORKING))
    side = (2 * radius + 1, 2 * radius + 1)
    mean, mean_soft = cv2.blur(guide, side), cv2.blur(soft, side)
    variance = cv2.blur(guide * guide, side) - mean * mean
    slope = (cv2.blur(guide * soft, side) - mean * mean_soft) / (variance + 1e-3)
    offset = mean_soft - slope * mean
    drawn = cv2.blur(slope, side) * guide + cv2.blur(offset, side)
    return np.where(drawn >= 0.5, 255, 0).astype(np.uint8)
