"""`retouch inpaint | upscale | batch`: the same answers as over HTTP, from files to files."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from service.errors import Problem
from service.formats import is_lossy
from service.settings import Settings
from service.work import TASKS, Parameters, Result, Run, Task, Work

if TYPE_CHECKING:
    from service.local.pipeline import Pipeline

IN_FLIGHT = 8  # pictures sent to a server before the first is back: enough to keep its workers busy


class UsageError(Exception):
    """Something on the command line that the caller can change."""


def parameters_from(arguments: argparse.Namespace, task: Task) -> Parameters:
    model = TASKS[task].parameters
    given = {name: getattr(arguments, name) for name in model.model_fields}
    return model.model_validate({name: value for name, value in given.items() if value is not None})


@contextlib.contextmanager
def pipeline_of(settings: Settings) -> Iterator[Pipeline]:
    from service.local.pipeline import Pipeline
    from service.observability.metrics import Metrics

    pipeline = Pipeline(settings, Metrics())
    try:
        yield pipeline
    finally:
        pipeline.close()


async def answer_files(
    pipeline: Pipeline, task: Task, parameters: Parameters, files: dict[str, Path]
) -> Result:
    content = {name: path.read_bytes() for name, path in files.items()}
    model = pipeline.catalogue.resolve(task, parameters.model, is_lossy(content["image"]))
    work = Work.create(task, model.name, model.digest, parameters, content, files["image"].name)
    return await pipeline.answer(Run(work))


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing: a batch that is stopped must not leave half a picture that looks done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def one(arguments: argparse.Namespace, settings: Settings) -> int:
    task: Task = arguments.command
    parameters = parameters_from(arguments, task)
    given = {name: getattr(arguments, name, None) for name in TASKS[task].files}
    files = {name: path for name, path in given.items() if path}
    with pipeline_of(settings) as pipeline:
        result = asyncio.run(answer_files(pipeline, task, parameters, files))
    write_whole(arguments.output, result.content)
    print(f"{arguments.output}: {result.width}x{result.height}, {result.model}")
    return 0


def files_of(arguments: argparse.Namespace, photo: Path) -> dict[str, Path]:
    """The picture, and its mask where a folder of masks is named."""
    masks: Path | None = getattr(arguments, "masks", None)
    if masks is None:
        return {"image": photo}
    found = sorted(masks.glob(f"{photo.stem}.*"))
    if not found:
        raise UsageError(f"no mask named {photo.stem}.* in {masks}")
    return {"image": photo, "mask": found[0]}


def batch(arguments: argparse.Namespace, settings: Settings) -> int:
    task: Task = arguments.task
    parameters = parameters_from(arguments, task)
    photos = sorted(path for path in arguments.folder.iterdir() if path.is_file() and path.name[0] != ".")
    with contextlib.ExitStack() as stack:
        if arguments.server:
            from service.client import JobClient

            client = stack.enter_context(
                contextlib.closing(JobClient(arguments.server, os.environ.get("RETOUCH_API_KEY", "")))
            )
            pool = stack.enter_context(ThreadPoolExecutor(IN_FLIGHT))

            async def answered(files: dict[str, Path]) -> bytes:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(pool, client.answer, task, parameters, files)
        else:
            pipeline = stack.enter_context(pipeline_of(settings))
            pipeline.catalogue.resolve(task, parameters.model)

            async def answered(files: dict[str, Path]) -> bytes:
                return (await answer_files(pipeline, task, parameters, files)).content

        at_once = IN_FLIGHT if arguments.server else 1
        outcomes = asyncio.run(work_through(arguments, photos, parameters.format, answered, at_once))
    failures = [f"{photo.name}: {outcome}" for photo, outcome in outcomes if outcome and outcome != SKIPPED]
    skipped = sum(outcome == SKIPPED for _, outcome in outcomes)
    done = len(outcomes) - skipped - len(failures)
    print(f"{done} done, {skipped} were there already, {len(failures)} failed")
    for failure in failures:
        print(f"  {failure}", file=sys.stderr)
    return 1 if failures else 0


SKIPPED = "there already"


async def work_through(
    arguments: argparse.Namespace,
    photos: list[Path],
    suffix: str,
    answered: Callable[[dict[str, Path]], Awaitable[bytes]],
    at_once: int,
) -> list[tuple[Path, str]]:
    """Each picture with why it has no answer: nothing if it has one."""
    started, outcomes = time.monotonic(), []
    places = asyncio.Semaphore(at_once)

    async def work(photo: Path) -> str:
        output = arguments.output / f"{photo.stem}.{suffix}"
        if output.exists():
            return SKIPPED
        try:
            async with places:
                write_whole(output, await answered(files_of(arguments, photo)))
        except (Problem, UsageError, OSError, httpx.TransportError) as error:
            return str(error)
        return ""

    async def counted(photo: Path) -> None:
        outcomes.append((photo, await work(photo)))
        show_progress(len(outcomes), len(photos), started)

    await asyncio.gather(*map(counted, photos))
    return sorted(outcomes)


def show_progress(number: int, total: int, started: float) -> None:
    if not sys.stderr.isatty():
        return
    filled = 30 * number // total
    left = (time.monotonic() - started) / number * (total - number)
    end = "\n" if number == total else ""
    print(f"\r[{'#' * filled:30}] {number}/{total}, {left:.0f} s left ", end=end, file=sys.stderr, flush=True)
