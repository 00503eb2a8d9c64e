"""How each task is done: decode, cut windows, have them computed, put them back, encode.

Coroutines say in which order; what takes the processor is done by plain functions on two pools of threads.
The pools are apart so that finished work never waits behind pictures that are yet to be decoded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from models.network import SizeRule
from models.upscaling.upscaler import steps
from service.engine.catalogue import Catalogue, Traits
from service.engine.cores import usable_cores
from service.engine.engine import Engine
from service.engine.engines import Engines
from service.engine.runtimes import make_runtimes
from service.engine.windows import InpaintWindow, Pixels, UpscaleTile, Window, peak
from service.errors import Unprocessable
from service.imaging.compose import paste
from service.imaging.decode import Header, decode, read_header
from service.imaging.encode import encode
from service.imaging.extend import NO_MARGINS, margins
from service.imaging.limits import Limits
from service.imaging.masks import (
    decode_mask,
    decode_sketch,
    hole_from_alpha,
    shape_hole,
    without_hidden_colours,
)
from service.imaging.picture import Picture
from service.imaging.windows import HoleWindow, Mask, core_region, cut, plan_holes, plan_tiles, target_size
from service.local.budget import Budget
from service.observability import tracing
from service.observability.metrics import Metrics
from service.settings import Settings
from service.turns import Turns
from service.work import MEDIA_TYPES, InpaintParameters, Result, Run, UpscaleParameters, Work

Plane = npt.NDArray[np.uint8]
Size = tuple[int, int]  # height, width
Factors = tuple[Fraction, Fraction]  # vertical, horizontal
P = ParamSpec("P")
T = TypeVar("T")

STAGES = ("decode", "queue", "compute", "encode")


def nothing(*_: object) -> None: ...


class Pipeline:
    """The engine with all that stands before and behind it."""

    def __init__(self, settings: Settings, metrics: Metrics, on_death: Callable[[], None] = nothing) -> None:
        self.threads = settings.codec_threads or usable_cores()
        self.decoders = ThreadPoolExecutor(self.threads, "decode")
        self.encoders = ThreadPoolExecutor(self.threads, "encode")
        # These wait for children that decode, and hold up nobody else when a picture takes long.
        self.sandboxes = ThreadPoolExecutor(self.threads, "sandbox")
        self.turns = {
            pool: Turns(self.threads, self.threads) for pool in (self.decoders, self.encoders, self.sandboxes)
        }
        self.limits = Limits(settings.max_pixels, settings.max_side)
        self.budget = Budget(settings.pixel_budget)
        self.metrics = metrics
        self.runtimes = make_runtimes(settings)
        self.device = self.runtimes[0].device if len(self.runtimes) == 1 else "cuda"
        self.catalogue = Catalogue(settings, self.device)
        self.engine = Engines(
            [Engine(settings, metrics, runtime, self.catalogue, on_death) for runtime in self.runtimes]
        )
        self.engine.start()

    def close(self, grace: float = 0.0) -> None:
        self.engine.stop(grace)
        for pool in self.turns:
            pool.shutdown(wait=False, cancel_futures=True)

    async def answer(self, run: Run, decoded: Callable[[float], None] = nothing) -> Result:
        """The run's result; `decoded` hears how long its pictures took to decode, as soon as they are."""
        course = Course(self, run, decoded)
        return await (course.inpaint() if run.work.task == "inpaint" else course.upscale())


@dataclass(frozen=True)
class Holes:
    """A decoded picture and what is to be filled in it."""

    picture: Picture
    hole: Mask
    blend: npt.NDArray[np.float32]
    plans: list[HoleWindow]
    windows: list[InpaintWindow]
    share: float  # of the picture that the holes take


class Course:
    """One run on its way: the time it spent in each stage, how many windows it took, the memory it holds."""

    def __init__(self, pipeline: Pipeline, run: Run, decoded: Callable[[float], None]) -> None:
        self.at = pipeline
        self.run = run
        self.work = run.work
        self.timings = dict.fromkeys(STAGES, 0.0)
        self.windows = 0
        self.limits = replace(pipeline.limits, seconds=run.deadline.left)
        self._decoded = decoded
        self._trace = tracing.here()
        self._last: Future[Any] = Future()  # the newest call on a thread
        self._last.set_result(None)

    async def inpaint(self) -> Result:
        traits = self.at.catalogue.traits(self.work.model)
        if "sketch" in self.work.files and not traits.sketch:
            raise Unprocessable(
                f"Model {self.work.model!r} takes no sketch; leave it out or choose another model."
            )
        assert isinstance(self.work.parameters, InpaintParameters)
        if self.work.parameters.seed and not traits.draws:
            raise Unprocessable(
                f"Model {self.work.model!r} draws nothing at random: no seed makes another fill."
            )
        headers = await self.decode(
            lambda: [read_header(file, self.limits) for file in self.work.files.values()]
        )
        async with self.memory(sum(self.extended(header) * header.bits // 8 for header in headers)):
            found = await self.decode_all(
                headers, read_holes, self.work, self.limits, traits.window, traits.sides, traits.grid
            )
            if not found.windows:
                return await self.result(lambda: found.picture, 0.0)
            fills = await self.compute(self.work.model, found.windows)
            for index, plan in enumerate(found.plans):
                fills[index] = await self.full_size(fills[index][: plan.work[0], : plan.work[1]], plan)
            transparent = "mask" not in self.work.files
            return await self.result(lambda: filled(found, fills, transparent), found.share)

    def extended(self, header: Header) -> int:
        """A picture's pixels when it is extended, which have to be within limits."""
        assert isinstance(self.work.parameters, InpaintParameters)
        size = header.height, header.width
        height, width = margins(self.work.parameters.extend, *size).around(*size)
        self.at.limits.check(
            height, width, "The extended picture" if (height, width) != size else "The picture"
        )
        return height * width

    async def full_size(self, fill: Pixels, plan: HoleWindow) -> Pixels:
        """A fill that was made small, at its hole's own size."""
        if plan.native:
            return fill
        out = (plan.box.height, plan.box.width)
        factors = (Fraction(out[0], plan.work[0]), Fraction(out[1], plan.work[1]))
        return await self.enlarge(self.at.catalogue.default("upscale"), fill, factors, out)

    async def upscale(self) -> Result:
        parameters, image, limits = self.work.parameters, self.work.files["image"], self.limits
        assert isinstance(parameters, UpscaleParameters)
        header = await self.decode(read_header, image, limits)
        *size, vertical, horizontal = target_size(
            header.height, header.width, parameters.scale, parameters.width, parameters.height
        )
        out, factors = (size[0], size[1]), (vertical, horizontal)
        limits.check(*out, "The result")
        async with self.memory((header.pixels + out[0] * out[1]) * header.bits // 8):
            picture, alpha = await self.decode_all(
                [header], read_picture, image, limits, parameters.keep_metadata
            )
            traits = self.at.catalogue.traits(self.work.model)
            same = vertical == horizontal == 1
            if same and not traits.restores:
                return await self.result(lambda: picture)
            pixels = picture.pixels
            if alpha is not None:
                pixels = await self.decode(without_hidden_colours, pixels, alpha[..., 0])
                if not same:
                    alpha = await self.enlarge(self.work.model, alpha, factors, out)
            pixels = await self.enlarge(self.work.model, pixels, factors, out)
            return await self.result(lambda: enlarged(picture, pixels, alpha))

    async def enlarge(self, model: str, pixels: Pixels, factors: Factors, out: Size) -> Pixels:
        """`pixels` at the size `out`, in as many steps as are best, each by overlapping tiles."""
        traits = self.at.catalogue.traits(model)
        for step, size in steps((pixels.shape[0], pixels.shape[1]), factors, out, traits.one_step):
            tiles = await self.decode(cut_tiles, pixels, step, size, traits)
            outputs = await self.compute(model, tiles)
            pixels = await self.thread(self.at.encoders, "encode", join_tiles, tiles, outputs, size)
        return pixels

    async def compute(self, model: str, windows: Sequence[Window]) -> list[Pixels]:
        # Only a run's first windows may be refused for the length of the queue: later ones would waste them.
        future = self.at.engine.compute(self.run, model, windows, admitted=self.windows > 0)
        computed = await asyncio.wrap_future(future)
        self.windows += len(windows)
        self.timings["queue"] += computed.queue
        self.timings["compute"] += computed.compute
        tracing.measured("queue", self._trace, computed.queue, ago=computed.compute)
        tracing.measured("compute", self._trace, computed.compute, model=model, windows=len(windows))
        return computed.outputs

    async def result(self, make: Callable[[], Picture], hole: float | None = None) -> Result:
        """The picture is made where it is encoded, on a thread."""
        parameters = self.work.parameters

        def encoded() -> tuple[Picture, bytes]:
            picture = make()
            return picture, to_bytes(picture, parameters.format, parameters.quality)

        picture, content = await self.thread(self.at.encoders, "encode", encoded)
        metrics, labels = self.at.metrics, (self.work.model, self.work.task)
        metrics.decode_seconds.labels(*labels).observe(self.timings["decode"])
        metrics.encode_seconds.labels(*labels).observe(self.timings["encode"])
        metrics.job_windows.labels(*labels).observe(self.windows)
        if self.windows:
            metrics.queue_seconds.labels(*labels).observe(self.timings["queue"])
        return Result(
            content,
            MEDIA_TYPES[parameters.format],
            self.work.model,
            picture.width,
            picture.height,
            hole,
            self.windows,
            self.timings,
        )

    async def decode(self, call: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        return await self.thread(self.at.decoders, "decode", call, *args, **options)

    async def decode_all(
        self, headers: Sequence[Header], call: Callable[P, T], *args: P.args, **options: P.kwargs
    ) -> T:
        """The one long step before the device: admission hears how long it took."""
        plain = all(header.plain for header in headers)
        pool = self.at.decoders if plain else self.at.sandboxes
        started = time.monotonic()
        answer = await self.thread(pool, "decode", call, *args, **options)
        self._decoded(time.monotonic() - started)
        return answer

    async def thread(
        self, pool: ThreadPoolExecutor, stage: str, call: Callable[P, T], *args: P.args, **options: P.kwargs
    ) -> T:
        """The call's answer from a thread of the pool, when it is this caller's turn; unless nobody waits
        for it any more.
        """

        def timed() -> T:
            if found := self.run.obstacle():
                raise found[1]
            started = time.perf_counter()
            with tracing.stage(stage, self._trace):
                answer = call(*args, **options)
            self.timings[stage] += time.perf_counter() - started
            return answer

        async with self.at.turns[pool].place(self.work.owner):
            self._last = future = pool.submit(timed)
            return await asyncio.wrap_future(future)

    @asynccontextmanager
    async def memory(self, pixels: int) -> AsyncIterator[None]:
        """Room for so many pixels."""
        reservation = self.at.budget.reserve(pixels)
        try:
            await asyncio.wrap_future(reservation.granted)
            yield
        finally:
            # Whoever leaves leaves his last call behind: it holds its pictures until its thread is done.
            self._last.add_done_callback(lambda _: reservation.release())


def read_holes(work: Work, limits: Limits, window: int, sides: SizeRule, grid: int) -> Holes:
    parameters, files = work.parameters, work.files
    assert isinstance(parameters, InpaintParameters)
    picture = decode(files["image"], limits, parameters.keep_metadata)
    around = margins(parameters.extend, *picture.size)
    mask = read_mask(picture, files.get("mask"), parameters, limits)
    lines = decode_sketch(files["sketch"], picture.size, limits) if "sketch" in files else None
    if around != NO_MARGINS:
        picture, mask = around.extend(picture), around.pad(mask, 255)
        lines = None if lines is None else around.pad(lines, 0)
    hole, blend = shape_hole(mask, parameters.grow, parameters.feather)
    if hole.all():
        raise Unprocessable("The hole covers the whole picture; nothing is left to continue from.")
    plans = plan_holes(hole, window, grid) if hole.any() else []
    windows = [
        replace(hole_window(picture.pixels, hole, lines, plan, sides), seed=parameters.seed) for plan in plans
    ]
    return Holes(picture, hole, blend, plans, windows, float(hole.mean()))


def read_mask(picture: Picture, mask: bytes | None, parameters: InpaintParameters, limits: Limits) -> Plane:
    if mask is not None:
        return decode_mask(mask, parameters.mask_mode, picture.size, limits)
    if picture.alpha is None:
        if parameters.extend is not None:
            return np.zeros(picture.size, np.uint8)
        raise Unprocessable("There is no mask, and the picture has no transparency to use as one.")
    transparent = hole_from_alpha(picture)
    return np.zeros(picture.size, np.uint8) if transparent is None else transparent


def hole_window(
    pixels: Pixels, hole: Mask, lines: Plane | None, plan: HoleWindow, sides: SizeRule
) -> InpaintWindow:
    crop, gone = cut(pixels, hole, plan, sides.multiple, sides.minimum)
    if lines is None:
        return InpaintWindow(crop, gone.astype(np.uint8))
    drawn = lines[plan.box.slices]
    if not plan.native:
        # A thin line must not vanish between the pixels that are kept.
        drawn = cv2.resize(drawn, plan.work[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    sketch = np.zeros(gone.shape, np.uint8)
    sketch[: plan.work[0], : plan.work[1]] = drawn > 0
    return InpaintWindow(crop, gone.astype(np.uint8), sketch)


def filled(found: Holes, fills: Sequence[Pixels], by_transparency: bool) -> Picture:
    picture, canvas, alpha = found.picture, found.picture.pixels.copy(), found.picture.alpha
    for plan, fill in zip(found.plans, fills, strict=True):
        paste(canvas, plan.answer(fill), plan.bound, found.blend)
    if alpha is not None and by_transparency:  # what was missing is there now
        alpha = np.where(found.hole, peak(alpha), alpha).astype(alpha.dtype)
    return replace(picture, pixels=canvas, alpha=alpha)


def read_picture(image: bytes, limits: Limits, keep_metadata: bool) -> tuple[Picture, Pixels | None]:
    """And its alpha as a picture to enlarge, unless that is the same everywhere."""
    picture = decode(image, limits, keep_metadata)
    alpha = picture.alpha
    if alpha is None or (alpha == alpha[0, 0]).all():
        return picture, None
    return picture, np.broadcast_to(alpha[..., None], (*alpha.shape, 3))


def enlarged(picture: Picture, pixels: Pixels, alpha: Pixels | None) -> Picture:
    plane = picture.alpha
    if alpha is not None:
        plane = as_gray(alpha)[..., 0]
    elif plane is not None:
        plane = np.full(pixels.shape[:2], plane[0, 0])
    return replace(picture, pixels=pixels, alpha=plane)


def cut_tiles(pixels: Pixels, factors: Factors, out: Size, traits: Traits) -> list[UpscaleTile]:
    size = (pixels.shape[0], pixels.shape[1])
    return [
        UpscaleTile(
            pixels[tile.box.slices],
            factors,
            (tile.box.top, tile.box.left),
            core_region(tile, *factors, size, out),
        )
        for tile in plan_tiles(*size, traits.window, traits.receptive_field, traits.grid)
    ]


def join_tiles(tiles: Sequence[UpscaleTile], outputs: Sequence[Pixels], out: Size) -> Pixels:
    canvas = np.empty((*out, 3), tiles[0].pixels.dtype)
    for tile, output in zip(tiles, outputs, strict=True):
        top, left, height, width = tile.region
        canvas[top : top + height, left : left + width] = output
    return canvas


def to_bytes(picture: Picture, format: str, quality: int) -> bytes:
    if picture.gray:
        picture = replace(picture, pixels=as_gray(picture.pixels))
    return encode(picture, format, quality)


def as_gray(pixels: Pixels) -> Pixels:
    """Three equal channels, which stay as they are where they were equal."""
    mean = (pixels.sum(2, dtype=np.uint32, keepdims=True) + 1) // 3
    return np.broadcast_to(mean.astype(pixels.dtype), pixels.shape)
