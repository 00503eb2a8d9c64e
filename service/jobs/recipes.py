"""How each task is done: decode, cut windows, have them computed, put them back, encode."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.upscaling.upscaler import steps
from service.engine.catalogue import Catalogue
from service.engine.engine import Engine
from service.engine.waiting import Computed, obstacle
from service.engine.windows import InpaintWindow, Pixels, UpscaleTile, Window, peak
from service.errors import Unprocessable
from service.imaging.compose import paste
from service.imaging.decode import Limits, decode, read_header
from service.imaging.encode import encode
from service.imaging.masks import decode_mask, decode_sketch, hole_from_alpha, shape_hole
from service.imaging.picture import Picture
from service.imaging.windows import HoleWindow, Mask, core_region, cut, plan_holes, plan_tiles, target_size
from service.jobs.budget import Budget
from service.jobs.job import MEDIA_TYPES, InpaintParameters, Job, Result, UpscaleParameters
from service.jobs.steps import Recipe
from service.observability.metrics import Metrics
from service.settings import Settings

Plane = npt.NDArray[np.uint8]
STAGES = ("decode", "queue", "compute", "encode")


@dataclass(frozen=True)
class Kitchen:
    """What every recipe uses."""

    settings: Settings
    metrics: Metrics
    engine: Engine
    catalogue: Catalogue
    budget: Budget

    @property
    def limits(self) -> Limits:
        return Limits(self.settings.max_pixels, self.settings.max_side)


@dataclass
class Work:
    """One job under way: the time it spent in each stage, and how many windows it took."""

    at: Kitchen
    job: Job
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    windows: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        found = obstacle(self.job)
        if found:
            raise found[1]
        started = time.perf_counter()
        yield
        self.timings[name] += time.perf_counter() - started

    def compute(
        self, model: str, windows: Sequence[Window]
    ) -> Generator[Future[Any], Computed, list[Pixels]]:
        # Only a job's first windows may be refused for the length of the queue: later ones would waste them.
        computed = yield self.at.engine.compute(self.job, model, windows, admitted=self.windows > 0)
        self.windows += len(windows)
        self.timings["queue"] += computed.queue
        self.timings["compute"] += computed.compute
        return computed.outputs

    def enlarge(
        self, model: str, pixels: Pixels, factors: tuple[Fraction, Fraction], out: tuple[int, int]
    ) -> Generator[Future[Any], Computed, Pixels]:
        """`pixels` at `out` (height, width), in as many steps as are best."""
        for step, size in steps((pixels.shape[0], pixels.shape[1]), factors, out):
            pixels = yield from self.enlarge_once(model, pixels, step, size)
        return pixels

    def enlarge_once(
        self, model: str, pixels: Pixels, factors: tuple[Fraction, Fraction], out: tuple[int, int]
    ) -> Generator[Future[Any], Computed, Pixels]:
        """By overlapping tiles."""
        size = (pixels.shape[0], pixels.shape[1])
        facts = self.at.catalogue.facts(model)
        tiles = plan_tiles(*size, facts.window, facts.receptive_field)
        regions = [core_region(tile, *factors, size, out) for tile in tiles]
        windows = [
            UpscaleTile(pixels[tile.box.slices], factors, (tile.box.top, tile.box.left), region)
            for tile, region in zip(tiles, regions, strict=True)
        ]
        outputs = yield from self.compute(model, windows)
        canvas = np.empty((*out, 3), pixels.dtype)
        for (top, left, height, width), output in zip(regions, outputs, strict=True):
            canvas[top : top + height, left : left + width] = output
        return canvas

    def result(self, picture: Picture, hole: float | None = None) -> Result:
        parameters = self.job.parameters
        with self.stage("encode"):
            if picture.gray:
                picture = replace(picture, pixels=as_gray(picture.pixels))
            content = encode(picture, parameters.format, parameters.quality)
        metrics = self.at.metrics
        metrics.decode_seconds.observe(self.timings["decode"])
        metrics.encode_seconds.observe(self.timings["encode"])
        metrics.job_windows.observe(self.windows)
        if self.windows:
            metrics.queue_seconds.observe(self.timings["queue"])
        return Result(
            content=content,
            media_type=MEDIA_TYPES[parameters.format],
            model=self.job.model,
            width=picture.width,
            height=picture.height,
            hole=hole,
            windows=self.windows,
            timings=self.timings,
        )


@contextmanager
def memory(at: Kitchen, pixels: int) -> Iterator[Future[None]]:
    """Room for so many pixels, given back at the end; the future says when it is there."""
    reservation = at.budget.reserve(pixels)
    try:
        yield reservation.granted
    finally:
        reservation.release()


def inpaint(at: Kitchen, job: Job) -> Recipe:
    parameters, limits, work = job.parameters, at.limits, Work(at, job)
    assert isinstance(parameters, InpaintParameters)
    facts = at.catalogue.facts(job.model)
    if job.sketch is not None and not facts.sketch:
        raise Unprocessable(f"Model {job.model!r} takes no sketch; leave it out or choose another model.")
    uploads = [upload for upload in (job.image, job.mask, job.sketch) if upload is not None]
    with work.stage("decode"):
        headers = [read_header(upload, limits) for upload in uploads]
    with memory(at, sum(header.pixels * header.bits // 8 for header in headers)) as granted:
        yield granted
        with work.stage("decode"):
            picture = decode(job.image, limits, parameters.keep_metadata)
            hole, blend = shape_hole(mask_of(job, picture, limits), parameters.grow, parameters.feather)
            lines = decode_sketch(job.sketch, picture.size, limits) if job.sketch is not None else None
            if hole.all():
                raise Unprocessable("The hole covers the whole picture; nothing is left to continue from.")
        if not hole.any():
            return work.result(picture, 0.0)
        with work.stage("decode"):
            plans = plan_holes(hole, facts.window)
            windows = [
                hole_window(picture.pixels, hole, lines, plan, facts.sides.multiple, facts.sides.minimum)
                for plan in plans
            ]
        fills = yield from work.compute(job.model, windows)
        canvas = picture.pixels.copy()
        for plan, fill in zip(plans, fills, strict=True):
            fill = fill[: plan.work[0], : plan.work[1]]
            if not plan.native:
                factors = (Fraction(plan.box.height, plan.work[0]), Fraction(plan.box.width, plan.work[1]))
                fill = yield from work.enlarge(
                    at.catalogue.default("upscale"), fill, factors, (plan.box.height, plan.box.width)
                )
            paste(canvas, plan.answer(fill), plan.bound, blend)
        alpha = picture.alpha
        if alpha is not None and job.mask is None:
            alpha = np.where(hole, peak(alpha), alpha).astype(alpha.dtype)  # what was missing is there now
        return work.result(replace(picture, pixels=canvas, alpha=alpha), float(hole.mean()))


def mask_of(job: Job, picture: Picture, limits: Limits) -> Plane:
    assert isinstance(job.parameters, InpaintParameters)
    if job.mask is not None:
        return decode_mask(job.mask, job.parameters.mask_mode, picture.size, limits)
    if picture.alpha is None:
        raise Unprocessable("There is no mask, and the picture has no transparency to use as one.")
    transparent = hole_from_alpha(picture)
    return np.zeros(picture.size, np.uint8) if transparent is None else transparent


def hole_window(
    pixels: Pixels, hole: Mask, lines: Plane | None, plan: HoleWindow, multiple: int, minimum: int
) -> InpaintWindow:
    crop, gone = cut(pixels, hole, plan, multiple, minimum)
    if lines is None:
        return InpaintWindow(crop, gone.astype(np.uint8))
    drawn = lines[plan.box.slices]
    if not plan.native:
        # A thin line must not vanish between the pixels that are kept.
        drawn = cv2.resize(drawn, plan.work[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    sketch = np.zeros(gone.shape, np.uint8)
    sketch[: plan.work[0], : plan.work[1]] = drawn > 0
    return InpaintWindow(crop, gone.astype(np.uint8), sketch)


def upscale(at: Kitchen, job: Job) -> Recipe:
    parameters, limits, work = job.parameters, at.limits, Work(at, job)
    assert isinstance(parameters, UpscaleParameters)
    with work.stage("decode"):
        header = read_header(job.image, limits)
        *out, vertical, horizontal = target_size(
            header.height, header.width, parameters.scale, parameters.width, parameters.height
        )
        limits.check(out[0], out[1], "The result")
    with memory(at, (header.pixels + out[0] * out[1]) * header.bits // 8) as granted:
        yield granted
        with work.stage("decode"):
            picture = decode(job.image, limits, parameters.keep_metadata)
        if vertical == horizontal == 1:
            return work.result(picture)
        factors, size = (vertical, horizontal), (out[0], out[1])
        alpha = picture.alpha
        if alpha is not None and (alpha == alpha[0, 0]).all():
            alpha = np.full(size, alpha[0, 0])
        elif alpha is not None:
            spread = np.broadcast_to(alpha[..., None], (*alpha.shape, 3))
            larger = yield from work.enlarge(job.model, spread, factors, size)
            alpha = as_gray(larger)[..., 0]
        pixels = yield from work.enlarge(job.model, picture.pixels, factors, size)
        return work.result(replace(picture, pixels=pixels, alpha=alpha))


def as_gray(pixels: Pixels) -> Pixels:
    """Three equal channels, which stay as they are where they were equal."""
    mean = (pixels.sum(2, dtype=np.uint32, keepdims=True) + 1) // 3
    return np.broadcast_to(mean.astype(pixels.dtype), pixels.shape)
