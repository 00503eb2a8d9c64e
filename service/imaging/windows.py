"""Which pieces of a picture the networks see: a window round each hole, overlapping tiles to enlarge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import Unprocessable
from service.imaging.picture import Pixels

Mask = npt.NDArray[np.bool_]
CELL = 32  # holes nearer than this are one hole to the planner
CONTEXT = 2  # a window is so many times as wide as its hole,
TIGHT = 1.6  # or so many times at least if that keeps it at full size
NEAR = 256  # what lies further from a small hole than half of this says little about it
MAX_WINDOWS = 64  # a speckled mask is one large window, not thousands of small ones
LOWEST_SCALE, HIGHEST_SCALE = 1, 8


@dataclass(frozen=True)
class Box:
    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def touches(self, other: Box) -> bool:
        return (
            self.top < other.top + other.height
            and other.top < self.top + self.height
            and self.left < other.left + other.width
            and other.left < self.left + self.width
        )

    def union(self, other: Box) -> Box:
        top, left = min(self.top, other.top), min(self.left, other.left)
        bottom = max(self.top + self.height, other.top + other.height)
        right = max(self.left + self.width, other.left + other.width)
        return Box(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class HoleWindow:
    """A crop round some holes, and the size at which a network works on it (before padding).

    Other windows' holes may lie in the crop as well; it answers for those within `bound` alone.
    """

    box: Box
    work: tuple[int, int]
    bound: Box

    @property
    def native(self) -> bool:
        return self.work == (self.box.height, self.box.width)

    def answer(self, fill: Pixels) -> Pixels:
        """The part of `fill`, which is the box's, that the window answers for."""
        top, left = self.bound.top - self.box.top, self.bound.left - self.box.left
        return fill[top : top + self.bound.height, left : left + self.bound.width]


def plan_holes(hole: Mask, window: int, grid: int = 1) -> list[HoleWindow]:
    """Windows that answer for every hole pixel exactly once, with surroundings to learn from.

    Their sides are multiples of `grid` where the picture is large enough.
    """
    size = (hole.shape[0], hole.shape[1])
    bounds = hole_bounds(hole)
    while True:
        pair = next((pair for pair in combinations(bounds, 2) if together(*pair, size, window, grid)), None)
        if pair is None:
            boxes = [surround(bound, size, window, grid) for bound in bounds]
            return [
                HoleWindow(box, working_size(box, window), bound)
                for box, bound in zip(boxes, bounds, strict=True)
            ]
        bounds = [bound for bound in bounds if bound not in pair] + [pair[0].union(pair[1])]


def together(first: Box, second: Box, size: tuple[int, int], window: int, grid: int) -> bool:
    """Whether one window should answer for both: they are one to the planner, or it costs no sharpness."""
    if first.touches(second):
        return True
    near = surround(first, size, window, grid).touches(second) or surround(
        second, size, window, grid
    ).touches(first)
    union = surround(first.union(second), size, window, grid)
    return near and max(union.height, union.width) <= window


def hole_bounds(hole: Mask) -> list[Box]:
    """Bounding boxes of the holes, found on a coarse grid so that near ones count as one."""
    height, width = hole.shape
    rows, columns = -(-height // CELL), -(-width // CELL)
    padded = np.zeros((rows * CELL, columns * CELL), bool)
    padded[:height, :width] = hole
    cells = padded.reshape(rows, CELL, columns, CELL).any((1, 3)).astype(np.uint8)
    count, labels = cv2.connectedComponents(np.asarray(cells), connectivity=8)
    if count - 1 > MAX_WINDOWS:
        labels, count = (labels > 0).astype(np.int32), 2
    boxes = []
    for label in range(1, count):
        cell_rows, cell_columns = np.nonzero(labels == label)
        top, bottom = int(cell_rows.min()) * CELL, int(cell_rows.max() + 1) * CELL
        left, right = int(cell_columns.min()) * CELL, int(cell_columns.max() + 1) * CELL
        within = hole[top:bottom, left:right]
        down, across = np.nonzero(within.any(1))[0], np.nonzero(within.any(0))[0]
        tall, wide = int(down[-1] - down[0]) + 1, int(across[-1] - across[0]) + 1
        boxes.append(Box(top + int(down[0]), left + int(across[0]), tall, wide))
    return boxes


def surround(bound: Box, size: tuple[int, int], window: int, grid: int = 1) -> Box:
    """A square round `bound` with context, shifted into the picture and cut where that is smaller."""
    longest = max(bound.height, bound.width)
    side = -(-max(min(window, NEAR), CONTEXT * longest) // grid) * grid
    if side > window >= TIGHT * longest:
        side = window
    tops = [
        (min(side, whole), max(0, min(start + length // 2 - side // 2, whole - side)))
        for start, length, whole in (
            (bound.top, bound.height, size[0]),
            (bound.left, bound.width, size[1]),
        )
    ]
    (height, top), (width, left) = tops
    return Box(top, left, height, width)


def working_size(box: Box, window: int) -> tuple[int, int]:
    """The box itself, or as much smaller as makes its longer side the window's."""
    longest = max(box.height, box.width)
    if longest <= window:
        return box.height, box.width
    return max(1, round(box.height * window / longest)), max(1, round(box.width * window / longest))


def cut(
    pixels: Pixels, hole: Mask, plan: HoleWindow, multiple: int = 1, minimum: int = 1
) -> tuple[Pixels, Mask]:
    """The window at working size, padded by reflection to what the network takes."""
    crop, gone = pixels[plan.box.slices], hole[plan.box.slices]
    if not plan.native:
        crop, gone = shrink(crop, gone, plan.work)
    padding = [max(minimum, -(-side // multiple) * multiple) - side for side in plan.work]
    if any(padding):
        crop = np.pad(crop, ((0, padding[0]), (0, padding[1]), (0, 0)), "symmetric")
        gone = np.pad(gone, ((0, padding[0]), (0, padding[1])), "symmetric")
    return np.ascontiguousarray(crop), np.ascontiguousarray(gone)


def shrink(crop: Pixels, gone: Mask, work: tuple[int, int]) -> tuple[Pixels, Mask]:
    """Smaller, without what is in the hole leaking into its surroundings: only known pixels are averaged."""
    to = (work[1], work[0])
    known = (~gone).astype(np.float32)
    weight = cv2.resize(known, to, interpolation=cv2.INTER_AREA)
    total = cv2.resize(crop * known[..., None], to, interpolation=cv2.INTER_AREA)
    small = total / np.maximum(weight, 1e-6)[..., None]
    # A working pixel with anything missing in it is missing.
    return np.rint(small).astype(crop.dtype), weight < 1 - 1e-4


def target_size(
    height: int, width: int, scale: float | None, out_width: int | None, out_height: int | None
) -> tuple[int, int, Fraction, Fraction]:
    """Output height and width, vertical and horizontal factor; one side alone keeps the proportions."""
    if scale is not None:
        vertical = horizontal = Fraction(repr(scale))
    else:
        across = Fraction(out_width, width) if out_width else None
        down = Fraction(out_height, height) if out_height else None
        vertical, horizontal = down or across, across or down  # type: ignore[assignment]
    for factor in (vertical, horizontal):
        if not LOWEST_SCALE <= factor <= HIGHEST_SCALE:
            raise Unprocessable(
                f"The factor would be {float(factor):.4g}; it must be in {LOWEST_SCALE} .. {HIGHEST_SCALE}.",
                limit=HIGHEST_SCALE,
            )
    half = Fraction(1, 2)
    return (
        max(1, math.floor(height * vertical + half)),
        max(1, math.floor(width * horizontal + half)),
        vertical,
        horizontal,
    )


@dataclass(frozen=True)
class Span:
    """One axis of a tile: what it reads, and the core of it that it answers for."""

    start: int
    length: int
    core_start: int
    core_stop: int


@dataclass(frozen=True)
class Tile:
    rows: Span
    columns: Span

    @property
    def box(self) -> Box:
        return Box(self.rows.start, self.columns.start, self.rows.length, self.columns.length)


def spans(side: int, tile: int, overlap: int, grid: int = 1) -> list[Span]:
    """Equal tiles over one axis whose cores partition it, each core `overlap` away from inner tile edges.

    They are as few as tiles of at most `tile` can be, and no longer than these few must be, in whole `grid`s.
    """
    if side <= tile:
        return [Span(0, side, 0, side)]
    count = -(-(side - 2 * overlap) // max(1, tile - 2 * overlap))
    needed = -(-(side + 2 * overlap * (count - 1)) // count)
    tile = min(tile, -(-needed // grid) * grid)
    stride = max(1, tile - 2 * overlap)
    starts = [min(at * stride, side - tile) for at in range(count)]
    edges = [0, *((here + tile + after) // 2 for here, after in pairwise(starts)), side]
    return [
        Span(start, tile, core, stop) for start, core, stop in zip(starts, edges, edges[1:], strict=False)
    ]


def plan_tiles(height: int, width: int, tile: int, overlap: int, grid: int = 1) -> list[Tile]:
    return [
        Tile(rows, columns)
        for rows in spans(height, tile, overlap, grid)
        for columns in spans(width, tile, overlap, grid)
    ]


def core_region(
    tile: Tile, vertical: Fraction, horizontal: Fraction, size: tuple[int, int], out: tuple[int, int]
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of output pixels that read the tile's core; they partition the output."""

    def along(span: Span, factor: Fraction, whole: int, length: int) -> tuple[int, int]:
        stop = length if span.core_stop == whole else min(length, math.ceil(span.core_stop * factor))
        return math.ceil(span.core_start * factor), stop

    top, bottom = along(tile.rows, vertical, size[0], out[0])
    left, right = along(tile.columns, horizontal, size[1], out[1])
    return top, left, bottom - top, right - left
