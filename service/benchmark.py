"""`retouch bench`: what this machine does with the models that are installed here."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import numpy as np

from service.imaging import Picture, encode
from service.local.pipeline import Pipeline
from service.work import InpaintParameters, Run, Task, UpscaleParameters, Work

AT_ONCE = 8  # callers when throughput is measured: enough to fill batches
ALONE = 3  # at least so many pictures one after the other, when latency is
SCALE = 2.0


def example(side: int, seed: int) -> tuple[bytes, bytes]:
    """A picture of waves and grain, and a mask whose hole takes a sixteenth of it, both PNG."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side]
    waves = [np.sin(rows / 7), np.cos(columns / 11), np.sin((rows + columns) / 17)]
    grain = rng.normal(0, 4, (side, side, 3))
    pixels = (128 + 80 * np.stack(waves, -1) + grain).clip(0, 255).astype(np.uint8)
    hole = np.zeros((side, side, 3), np.uint8)
    hole[side // 3 : side // 3 + side // 4, side // 3 : side // 3 + side // 4] = 255
    return encode(Picture(pixels), "png"), encode(Picture(hole, gray=True), "png")


def runs(task: Task, model: str, side: int) -> Iterator[Run]:
    pairs = [example(side, seed) for seed in range(4)]
    parameters = InpaintParameters() if task == "inpaint" else UpscaleParameters(scale=SCALE)
    number = 0
    while True:
        image, mask = pairs[number % len(pairs)]
        number += 1
        files = {"image": image, "mask": mask} if task == "inpaint" else {"image": image}
        yield Run(Work.create(task, model, "", parameters, files, f"bench-{number}"))


async def measure(
    pipeline: Pipeline, task: Task, model: str, side: int, seconds: float
) -> tuple[float, float]:
    """Median latency of a picture alone, in milliseconds, and pictures a second with many at once."""
    upcoming = runs(task, model, side)
    await pipeline.answer(next(upcoming))  # loads and warms
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < ALONE or time.perf_counter() - started < seconds / 2:
        before = time.perf_counter()
        await pipeline.answer(next(upcoming))
        taken.append(time.perf_counter() - before)
    done, started = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - started < seconds / 2:
        done += len(await asyncio.gather(*(pipeline.answer(next(upcoming)) for _ in range(AT_ONCE))))
    return statistics.median(taken) * 1000, done / (time.perf_counter() - started)


async def table(
    pipeline: Pipeline, models: Sequence[str], sides: Sequence[int], seconds: float
) -> AsyncIterator[str]:
    """Markdown, a line as soon as it is measured; by default the models that answer when none is named."""
    catalogue = pipeline.catalogue
    chosen = models or [catalogue.default("inpaint"), catalogue.default("upscale")]
    tasks = {model: catalogue.entry(model).task for model in chosen}  # an unknown one is said at once
    yield f"{pipeline.device}; PNG in, PNG out, decoding and encoding included"
    yield "| model | picture | ms alone | pictures a second |"
    yield "| --- | --- | --- | --- |"
    for model, task in tasks.items():
        for side in sides:
            latency, rate = await measure(pipeline, task, model, side, seconds)
            what = f"{side}x{side}" + (f", x{SCALE:g}" if task == "upscale" else "")
            yield f"| {model} | {what} | {latency:.0f} | {rate:.2f} |"


def show(pipeline: Pipeline, models: Sequence[str], sides: Sequence[int], seconds: float) -> None:
    async def lines() -> None:
        async for line in table(pipeline, models, sides, seconds):
            print(line, flush=True)

    asyncio.run(lines())
