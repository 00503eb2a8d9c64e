"""Holes to train on: brush strokes, rectangles, blobs, borders, and what grows as training goes on."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Mask = npt.NDArray[np.uint8]  # (H, W), 1 in the hole

SMALLEST, LARGEST = 0.01, 0.6  # share of the picture that a hole may take
BLOB_GRID = 32j  # blobs are drawn so small: their outlines are smooth, and a GPU eats hundreds a second


def strokes(rng: np.random.Generator, height: int, width: int, size: float = 1.0) -> Mask:
    """Free-form strokes as DeepFill v2 draws them; `size` scales their width and length."""
    picture = Image.new("1", (width, height))
    draw = ImageDraw.Draw(picture)
    diagonal = math.hypot(height, width)
    thinnest, thickest = (max(1.0, size * min(height, width) / 256 * side) for side in (12, 40))
    for _ in range(int(rng.integers(1, 4))):
        turn = 2 * math.pi / 5 + rng.uniform(-1, 1) * 2 * math.pi / 15
        thickness = rng.uniform(thinnest, thickest)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        points = [(x, y)]
        for vertex in range(int(rng.integers(4, 12))):
            angle = rng.uniform(0, turn)
            angle = 2 * math.pi - angle if vertex % 2 == 0 else angle
            length = np.clip(rng.normal(diagonal / 8, diagonal / 16), 0, diagonal / 4) * size
            x = float(np.clip(x + length * math.sin(angle), 0, width))
            y = float(np.clip(y + length * math.cos(angle), 0, height))
            points.append((x, y))
        draw.line(points, fill=1, width=round(thickness))
        for x, y in points:
            half = thickness / 2
            draw.ellipse((x - half, y - half, x + half, y + half), fill=1)
    return turned(rng, np.array(picture, np.uint8))


def rectangle(rng: np.random.Generator, height: int, width: int, size: float = 1.0) -> Mask:
    mask = np.zeros((height, width), np.uint8)
    tall, wide = (max(1, int(side * rng.uniform(0.2, 0.6) * size)) for side in (height, width))
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    mask[top : top + tall, left : left + wide] = 1
    return mask


def blob(rng: np.random.Generator, height: int, width: int, size: float = 1.0) -> Mask:
    """The outline of a thing: a smooth random field above a level, within a random ellipse."""
    y, x = np.mgrid[0:1:BLOB_GRID, 0:1:BLOB_GRID]
    (row, column), (tall, wide) = rng.uniform(0.2, 0.8, 2), rng.uniform(0.15, 0.4, 2) * size
    away = np.hypot((y - row) / tall, (x - column) / wide)
    field = enlarged(rng.random((8, 8)), *away.shape) - 0.5 + 1.5 * (1 - away)
    return (enlarged(field, height, width) > 0).astype(np.uint8)


def enlarged(field: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float32]:
    small = Image.fromarray(field.astype(np.float32))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def border(rng: np.random.Generator, height: int, width: int, size: float = 1.0) -> Mask:
    """One side or several to be painted on beyond the picture's edge."""
    mask = np.zeros((height, width), np.uint8)
    for side in np.flatnonzero(rng.random(4) < 0.4):
        depth = max(1, int(rng.uniform(0.05, 0.25) * size * (height if side < 2 else width)))
        where = [np.s_[:depth, :], np.s_[-depth:, :], np.s_[:, :depth], np.s_[:, -depth:]][side]
        mask[where] = 1
    return mask


KINDS = (strokes, strokes, strokes, rectangle, blob, blob, border)


def random_mask(rng: np.random.Generator, height: int, width: int, progress: float = 1.0) -> Mask:
    """One hole or a union of several; small early in training (`progress` 0), up to LARGEST at its end."""
    size = 0.5 + 0.5 * min(1.0, progress)
    while True:
        mask = np.zeros((height, width), np.uint8)
        for _ in range(int(rng.integers(1, 4))):
            mask |= KINDS[int(rng.integers(len(KINDS)))](rng, height, width, size)
        if rng.random() < 0.1:
            mask = grown(mask)
        if SMALLEST <= mask.mean() <= LARGEST:
            return mask


def grown(mask: Mask) -> Mask:
    """Rounder and a little larger, as masks that people paint are."""
    return (np.asarray(Image.fromarray(mask * 255).filter(ImageFilter.GaussianBlur(4))) > 40).astype(np.uint8)


def turned(rng: np.random.Generator, mask: Mask) -> Mask:
    return np.ascontiguousarray(mask[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])])
