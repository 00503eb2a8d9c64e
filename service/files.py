"""`retouch inpaint | upscale | batch`: the same answers as over HTTP, from files to files."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import glob
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from service.errors import Problem, UsageError
from service.formats import is_lossy
from service.settings import Settings
from service.work import ALIASES, MEDIA_TYPES, TASKS, Parameters, Result, Run, Task, Work, read_parameters

if TYPE_CHECKING:
    from service.imaging.picture import Pixels
    from service.local.pipeline import Pipeline

IN_FLIGHT = 8  # pictures sent to a server before the first is back: enough to keep its workers busy
PIPE = Path("-")  # standard input or output
SKIPPED = "there already"

Files = dict[str, bytes]


def parameters_from(arguments: argparse.Namespace, task: Task) -> Parameters:
    kind = TASKS[task]
    given = {name: getattr(arguments, name) for name in kind.parameters.model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    return read_parameters(kind.parameters, given, kind.files)


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
    pipeline: Pipeline, task: Task, parameters: Parameters, files: Files, name: str
) -> Result:
    model = pipeline.catalogue.resolve(
        task, parameters.model, parameters.enlarges and is_lossy(files["image"])
    )
    return await pipeline.answer(Run(Work.create(task, model.name, model.digest, parameters, files, name)))


def read(path: Path) -> bytes:
    return sys.stdin.buffer.read() if path == PIPE else path.read_bytes()


def in_place(path: Path) -> bool:
    """Whether a path is written to and not replaced: devices, pipes, links."""
    return path.is_symlink() or (path.exists() and not path.is_file())


def write(path: Path, content: bytes) -> None:
    if path == PIPE:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    elif in_place(path):
        with path.open("wb") as file:
            file.write(content)
    else:
        write_whole(path, content)


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing: a batch that is stopped must not leave half a picture that looks done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """That files can be made in it, before anything is computed for them."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UsageError(f"{there} is no folder")
    if not os.access(there, os.W_OK):
        raise UsageError(f"nothing can be written in {there}")


def check_output(path: Path) -> None:
    if path == PIPE:
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the file to write")
    if not in_place(path):
        check_folder(path.parent)
    elif not os.access(path, os.W_OK) and path.exists():
        raise UsageError(f"{path} cannot be written to")


def format_of(output: Path, given: str | None) -> str | None:
    """What the output's suffix says, where `--format` says nothing."""
    suffix = output.suffix.lower().removeprefix(".")
    if output == PIPE or (in_place(output) and not suffix):
        return given
    named = ALIASES.get(suffix, suffix)
    if named not in MEDIA_TYPES:
        if given and not suffix:
            return given
        known = ", ".join(f".{name}" for name in (*MEDIA_TYPES, *ALIASES))
        raise UsageError(f"{output}: the format follows from the suffix, which may be {known}")
    if given and ALIASES.get(given, given) != named:
        raise UsageError(f"{output} is named as {named}, but --format says {given}")
    return named


def one(arguments: argparse.Namespace, settings: Settings) -> int:
    task: Task = arguments.command
    arguments.format = format_of(arguments.output, arguments.format)
    parameters = parameters_from(arguments, task)
    check_output(arguments.output)
    paths = {name: path for name in TASKS[task].files if (path := getattr(arguments, name, None))}
    if list(paths.values()).count(PIPE) > 1:
        raise UsageError("only one file can come through the pipe")
    files = {name: read(path) for name, path in paths.items()}
    if getattr(arguments, "resize_mask", False):
        files = with_fitting_mask(files, settings)
    with pipeline_of(settings) as pipeline:
        result = asyncio.run(answer_files(pipeline, task, parameters, files, arguments.image.name))
    write(arguments.output, result.content)
    # What is not a picture must not get between the bytes of one.
    aside = arguments.output == PIPE or in_place(arguments.output)
    said = f"{arguments.output}: {result.width}x{result.height}, {result.model}"
    print(said, file=sys.stderr if aside else sys.stdout)
    return 0


def with_fitting_mask(files: Files, settings: Settings) -> Files:
    """The mask at the picture's size, each of its pixels one of the mask's own."""
    if "mask" not in files:
        return files
    import cv2

    from service.imaging import Limits, decode, encode, read_header

    limits = Limits(settings.max_pixels, settings.max_side)
    header, mask = read_header(files["image"], limits), decode(files["mask"], limits)
    if mask.size == (header.height, header.width):
        return files

    def fitted(plane: Pixels) -> Pixels:
        return cv2.resize(plane, (header.width, header.height), interpolation=cv2.INTER_NEAREST)

    alpha = None if mask.alpha is None else fitted(mask.alpha)
    return files | {"mask": encode(replace(mask, pixels=fitted(mask.pixels), alpha=alpha, icc=None), "png")}


class Folder:
    """The pictures of a folder, in order, what each is called when it is done, and what is none."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from service.imaging.decode import suffixes

        self._top: Path = arguments.folder
        self._output: Path = arguments.output
        self._mask: Path | None = getattr(arguments, "mask", None)
        self._masks: Path | None = getattr(arguments, "masks", None)
        self._readable = suffixes()
        found = sorted(self._top.rglob("*") if arguments.recursive else self._top.iterdir())
        # Where the output lies in the folder, what was done before is no picture to do.
        inside = self._output.resolve() != self._top.resolve()
        found = [
            path
            for path in found
            if not any(part[0] == "." for part in path.relative_to(self._top).parts)
            and not (inside and path.resolve().is_relative_to(self._output.resolve()))
        ]
        files = [path for path in found if path.is_file()]
        self.photos = [path for path in files if path.suffix.lower() in self._readable]
        self.others = len(files) - len(self.photos)
        self.subfolders = 0 if arguments.recursive else len(found) - len(files)
        self._stems = Counter(photo.with_suffix("") for photo in self.photos)

    def name(self, photo: Path) -> str:
        return str(photo.relative_to(self._top))

    def output(self, photo: Path, suffix: str) -> Path:
        """Pictures that differ by their suffix alone keep it in their answers' names."""
        place = self._output / photo.relative_to(self._top)
        shared = self._stems[photo.with_suffix("")] > 1
        return place.with_name(f"{photo.name if shared else photo.stem}.{suffix}")

    def files(self, photo: Path) -> Files:
        """The picture, and its mask: one for all, or that of its name in a folder of masks."""
        mask = self._mask
        if self._masks:
            folder = self._masks / photo.relative_to(self._top).parent
            named = sorted(folder.glob(f"{glob.escape(photo.stem)}.*"))
            named = [path for path in named if path.suffix.lower() in self._readable]
            if not named:
                raise UsageError(f"no mask named {photo.stem}.* in {folder}")
            mask = next((path for path in named if path.name == photo.name), named[0])
        return {"image": photo.read_bytes()} | ({"mask": mask.read_bytes()} if mask else {})

    def left_out(self) -> str:
        said = [f"{self.others} files that are no pictures"] if self.others else []
        said += [f"{self.subfolders} subfolders (--recursive takes them)"] if self.subfolders else []
        return f"left out: {', '.join(said)}" if said else ""


Answered = Callable[[Files, str], Awaitable[bytes]]


def batch(arguments: argparse.Namespace, settings: Settings) -> int:
    task: Task = arguments.task
    parameters = parameters_from(arguments, task)
    check_folder(arguments.output)
    folder = Folder(arguments)
    outcomes = asyncio.run(work_through(arguments, settings, task, parameters, folder))
    failures = [f"{name}: {outcome}" for name, outcome in outcomes if outcome and outcome != SKIPPED]
    skipped = sum(outcome == SKIPPED for _, outcome in outcomes)
    done = len(outcomes) - skipped - len(failures)
    print(f"{done} done, {skipped} were there already, {len(failures)} failed")
    if said := folder.left_out():
        print(said)
    for failure in failures:
        print(f"  {failure}", file=sys.stderr)
    return 1 if failures else 0


@contextlib.asynccontextmanager
async def answering(
    arguments: argparse.Namespace, settings: Settings, task: Task, parameters: Parameters
) -> AsyncIterator[Answered]:
    """Whoever answers: this process, or the server that is named."""
    if arguments.server:
        from service.client import JobClient

        client = JobClient(arguments.server, os.environ.get("RETOUCH_API_KEY", ""), say)
        try:
            try:
                await client.greet(arguments.wait)
            except (httpx.TransportError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                hint = "" if arguments.wait else "; --wait SECONDS waits for one that is starting"
                raise UsageError(f"no server answers at {arguments.server} ({error}){hint}") from None
            yield lambda files, _: client.answer(task, parameters, files)
        finally:
            await client.close()
    else:
        with pipeline_of(settings) as pipeline:
            pipeline.catalogue.resolve(task, parameters.model)

            async def answered(files: Files, name: str) -> bytes:
                return (await answer_files(pipeline, task, parameters, files, name)).content

            yield answered


async def work_through(
    arguments: argparse.Namespace, settings: Settings, task: Task, parameters: Parameters, folder: Folder
) -> list[tuple[str, str]]:
    """Each picture's name with why it has no answer: nothing if it has one."""
    started, outcomes = time.monotonic(), []
    places = asyncio.Semaphore(IN_FLIGHT if arguments.server else 1)

    async def work(photo: Path, answered: Answered) -> str:
        output = folder.output(photo, parameters.format)
        if output.exists():
            return SKIPPED
        try:
            async with places:
                files = folder.files(photo)
                if getattr(arguments, "resize_mask", False):
                    files = await asyncio.to_thread(with_fitting_mask, files, settings)
                write_whole(output, await answered(files, photo.name))
        except (Problem, UsageError, OSError, httpx.TransportError) as error:
            return str(error)
        return ""

    async def counted(photo: Path, answered: Answered) -> None:
        outcomes.append((folder.name(photo), await work(photo, answered)))
        show_progress(len(outcomes), len(folder.photos), started)

    async with answering(arguments, settings, task, parameters) as answered:
        await asyncio.gather(*(counted(photo, answered) for photo in folder.photos))
    return sorted(outcomes)


def say(text: str) -> None:
    print(f"retouch: {text}", file=sys.stderr, flush=True)


def show_progress(number: int, total: int, started: float) -> None:
    if not sys.stderr.isatty():
        return
    filled = 30 * number // total
    left = (time.monotonic() - started) / number * (total - number)
    end = "\n" if number == total else ""
    print(f"\r[{'#' * filled:30}] {number}/{total}, {left:.0f} s left ", end=end, file=sys.stderr, flush=True)
