"""Distances between a fill and the picture that was there, beside those of `metrics`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.evaluation.metrics import WINDOW, blur, luma

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
Hole = npt.NDArray[np.bool_]  # (H, W)

PATCH, DIRECTIONS, MOST_PATCHES = 7, 64, 20_000


def l1_percent(fill: Pixels, truth: Pixels, hole: Hole) -> float:
    """Mean absolute difference over the hole, in percent of the range."""
    return float(np.abs(fill[hole].astype(np.float64) - truth[hole]).mean() / 255 * 100)


def gradient_ratio(fill: Pixels, truth: Pixels, hole: Hole) -> float:
    """Squared differences of neighbours within the hole, the fill's over the truth's: under 1 is blur."""
    return energy(fill, hole) / max(energy(truth, hole), 1e-9)


def energy(picture: Pixels, hole: Hole) -> float:
    values = picture.astype(np.float64)
    down = np.square(values[1:] - values[:-1])[hole[1:] & hole[:-1]]
    across = np.square(values[:, 1:] - values[:, :-1])[hole[:, 1:] & hole[:, :-1]]
    return float(down.sum() + across.sum())


def line_error(fill: Pixels, truth: Pixels, hole: Hole) -> float:
    """Degrees between the fill's gradient and the truth's, as the truth's is steep: 90 is chance.

    Contours that break off, bend or change sides are seen, however soft they are.
    """
    ours, theirs = slopes(fill)[hole], slopes(truth)[hole]
    angle = np.degrees(np.abs(np.angle(ours * theirs.conj())))
    steep = np.abs(theirs)
    return float((angle * steep).sum() / max(steep.sum(), 1e-9))


def slopes(picture: Pixels) -> npt.NDArray[np.complex128]:
    """The gradient of the luma as a complex number a pixel."""
    # Softened, so that a contour a pixel or two beside the true one still counts as the same.
    down, across = np.gradient(blur(np.pad(luma(picture), WINDOW // 2, mode="reflect")))
    return np.asarray(across + 1j * down, np.complex128)


def patch_distance(fill: Pixels, truth: Pixels, hole: Hole) -> float:
    """Sliced Wasserstein distance of the 7x7 patches whose middle lies in the hole, x100.

    Two textures are near each other when their patches are alike as sets, wherever each one lies.
    """
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(hole)
    if len(rows) > MOST_PATCHES:
        chosen = np.sort(rng.choice(len(rows), MOST_PATCHES, replace=False))
        rows, columns = rows[chosen], columns[chosen]
    directions = rng.standard_normal((PATCH * PATCH * 3, DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    ours, theirs = (projected(picture, rows, columns, directions) for picture in (fill, truth))
    return float(np.abs(np.sort(ours, 0) - np.sort(theirs, 0)).mean() * 100)


def projected(
    picture: Pixels, rows: npt.NDArray[Any], columns: npt.NDArray[Any], directions: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    reach = PATCH // 2
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH), axis=(0, 1))
    patches = windows[rows, columns].reshape(len(rows), -1) / 255.0
    answer: npt.NDArray[np.float64] = patches @ directions
    return answer
