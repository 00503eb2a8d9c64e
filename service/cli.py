"""`retouch`: serve, or use the same engine on files, without HTTP."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import ValidationError

from service.errors import Problem
from service.jobs.job import InpaintParameters, Job, Parameters, UpscaleParameters
from service.settings import Settings

if TYPE_CHECKING:
    from service.jobs.runner import Runner

IN_FLIGHT = 8  # pictures sent to a server before the first is back: enough to keep its workers busy
NO_DEADLINE = float("inf")


class UsageError(Exception):
    """Something on the command line that the caller can change."""


def add_parameters(parser: argparse.ArgumentParser, model: type[Parameters]) -> None:
    """One option a parameter, so that the command line and HTTP cannot drift apart."""
    for name, field in model.model_fields.items():
        option = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(option, action="store_const", const=True, help=field.description)
        else:
            parser.add_argument(option, help=f"{field.description} Default: {field.default}")


def parameters_from(arguments: argparse.Namespace, model: type[Parameters]) -> Any:
    given = {name: getattr(arguments, name) for name in model.model_fields}
    return model.model_validate({name: value for name, value in given.items() if value is not None})


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("retouch", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve HTTP")
    serve.add_argument("--host")
    serve.add_argument("--port", type=int)

    worker = commands.add_parser("worker", help="compute what API processes put into Redis")
    worker.add_argument("--models", default="", help="comma-separated; all that are installed by default")
    worker.add_argument("--host")
    worker.add_argument("--port", type=int, help="of health and metrics; default: RETOUCH_WORKER_PORT")

    inpaint = commands.add_parser("inpaint", help="fill a hole in one picture")
    inpaint.add_argument("photo", type=Path)
    inpaint.add_argument("mask", type=Path, nargs="?", help="left out: the picture's transparency")
    inpaint.add_argument("--sketch", type=Path)
    inpaint.add_argument("-o", "--output", type=Path, required=True)
    add_parameters(inpaint, InpaintParameters)

    upscale = commands.add_parser("upscale", help="enlarge one picture")
    upscale.add_argument("photo", type=Path)
    upscale.add_argument("-o", "--output", type=Path, required=True)
    add_parameters(upscale, UpscaleParameters)

    batch = commands.add_parser("batch", help="work through a folder; what is done already is skipped")
    tasks = batch.add_subparsers(dest="task", required=True, metavar="TASK")
    for task, model in (("inpaint", InpaintParameters), ("upscale", UpscaleParameters)):
        folder = tasks.add_parser(task)
        folder.add_argument("folder", type=Path)
        folder.add_argument("-o", "--output", type=Path, required=True)
        folder.add_argument("--server", help="send them to a service as jobs; its key: RETOUCH_API_KEY")
        if task == "inpaint":
            folder.add_argument("--masks", type=Path, help="folder with a mask of the same stem a picture")
        add_parameters(folder, model)

    listing = commands.add_parser("models", help="list what is installed")
    listing.add_argument(
        "--warm", action="store_true", help="and load each, so that a broken file is found now"
    )

    bench = commands.add_parser("bench", help="measure what this machine does with the installed models")
    bench.add_argument("--model", action="append", default=[], help="may be repeated; default: the defaults")
    bench.add_argument(
        "--side", type=int, action="append", help="pixels; may be repeated; default: 256 and 512"
    )
    bench.add_argument("--seconds", type=float, default=6.0, help="for each line")

    train = commands.add_parser("train", help="train a network as a config says", add_help=False)
    train.add_argument("rest", nargs=argparse.REMAINDER)  # parsed where the networks are at hand
    evaluate = commands.add_parser("evaluate", help="judge models on folders of pictures", add_help=False)
    evaluate.add_argument("rest", nargs=argparse.REMAINDER)
    weights = commands.add_parser("weights", help="import, list, verify and export weights", add_help=False)
    weights.add_argument("rest", nargs=argparse.REMAINDER)
    return parser


def serve(arguments: argparse.Namespace, settings: Settings) -> int:
    from service.app import create_app
    from service.server import run_server

    settings = set_up(arguments, settings)
    app = create_app(settings)
    backend = app.state.services.dispatcher
    names = ", ".join(row["name"] for row in backend.models()) or "as the workers announce them"
    print(
        f"Retouch on http://{settings.host}:{settings.port} ({backend.device}); models: {names}", flush=True
    )
    return run_server(app, settings)


def worker(arguments: argparse.Namespace, settings: Settings) -> int:
    from service.server import run_server
    from service.worker import create_worker

    if not settings.redis_url:
        raise UsageError("a worker needs RETOUCH_REDIS_URL")
    settings = set_up(arguments, settings.model_copy(update={"port": settings.worker_port}))
    app = create_worker(settings, [name.strip() for name in arguments.models.split(",") if name.strip()])
    found = app.state.services.dispatcher
    address = f"http://{settings.host}:{settings.port}"
    print(
        f"Retouch worker ({found.device}), health on {address}; models: {', '.join(found.hosted)}", flush=True
    )
    return run_server(app, settings)


def set_up(arguments: argparse.Namespace, settings: Settings) -> Settings:
    """Logs, and the settings with the address that the command line names."""
    from service.observability import logs

    logs.configure(settings.log_level, settings.log_format)
    given = {name: getattr(arguments, name) for name in ("host", "port")}
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def job_for(
    task: str, photo: Path, parameters: Any, model: str, mask: Path | None = None, sketch: Path | None = None
) -> Job:
    def read(path: Path | None) -> bytes | None:
        return path.read_bytes() if path else None

    return Job(
        task="inpaint" if task == "inpaint" else "upscale",
        model=model,
        image=photo.read_bytes(),
        mask=read(mask),
        sketch=read(sketch),
        parameters=parameters,
        deadline=NO_DEADLINE,
        request_id=photo.name,
    )


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing: a batch that is stopped must not leave half a picture that looks done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def make_runner(settings: Settings) -> Runner:
    from service.jobs.runner import Runner
    from service.observability.metrics import Metrics

    return Runner(settings, Metrics())


def one(arguments: argparse.Namespace, settings: Settings, model_type: type[Parameters]) -> int:
    parameters = parameters_from(arguments, model_type)
    runner = make_runner(settings)
    try:
        model, _ = runner.resolve(arguments.command, parameters.model)
        mask, sketch = getattr(arguments, "mask", None), getattr(arguments, "sketch", None)
        result = runner.run(job_for(arguments.command, arguments.photo, parameters, model, mask, sketch))
    finally:
        runner.close()
    write_whole(arguments.output, result.content)
    print(f"{arguments.output}: {result.width}x{result.height}, {result.model}")
    return 0


def matching_mask(masks: Path | None, photo: Path) -> Path | None:
    if masks is None:
        return None
    found = sorted(masks.glob(f"{photo.stem}.*"))
    if not found:
        raise UsageError(f"no mask named {photo.stem}.* in {masks}")
    return found[0]


def batch(arguments: argparse.Namespace, settings: Settings) -> int:
    inpainting = arguments.task == "inpaint"
    parameters = parameters_from(arguments, InpaintParameters if inpainting else UpscaleParameters)
    photos = sorted(path for path in arguments.folder.iterdir() if path.is_file() and path.name[0] != ".")
    failures: list[str] = []
    done = skipped = 0
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        answer, each = answerer(arguments, settings, parameters, stack)

        def work(photo: Path) -> str | None:
            """Why there is no answer; nothing if there is one, and an empty word if there was one before."""
            output = arguments.output / f"{photo.stem}.{parameters.format}"
            if output.exists():
                return ""
            try:
                mask = matching_mask(arguments.masks, photo) if inpainting else None
                write_whole(output, answer(photo, mask))
            except (Problem, UsageError, OSError, httpx.TransportError) as error:
                return f"{photo.name}: {error}"
            return None

        for number, failure in enumerate(each(work, photos), 1):
            done += failure is None
            skipped += failure == ""
            failures += [failure] if failure else []
            show_progress(number, len(photos), started)
    print(f"{done} done, {skipped} were there already, {len(failures)} failed")
    for failure in failures:
        print(f"  {failure}", file=sys.stderr)
    return 1 if failures else 0


def answerer(
    arguments: argparse.Namespace, settings: Settings, parameters: Parameters, stack: contextlib.ExitStack
) -> tuple[Callable[[Path, Path | None], bytes], Callable[..., Iterable[str | None]]]:
    """What answers a picture, and how to go through many: one after the other here, several at once there."""
    if arguments.server:
        from service.client import JobClient

        client = JobClient(arguments.server, os.environ.get("RETOUCH_API_KEY", ""))
        stack.callback(client.close)
        pool = stack.enter_context(ThreadPoolExecutor(IN_FLIGHT))
        return lambda photo, mask: client.answer(arguments.task, parameters, photo, mask), pool.map
    runner = make_runner(settings)
    stack.callback(runner.close)
    model, _ = runner.resolve(arguments.task, parameters.model)
    return (
        lambda photo, mask: runner.run(job_for(arguments.task, photo, parameters, model, mask)).content
    ), map


def show_progress(number: int, total: int, started: float) -> None:
    if not sys.stderr.isatty():
        return
    filled = 30 * number // total
    left = (time.monotonic() - started) / number * (total - number)
    end = "\n" if number == total else ""
    print(f"\r[{'#' * filled:30}] {number}/{total}, {left:.0f} s left ", end=end, file=sys.stderr, flush=True)


def bench(arguments: argparse.Namespace, settings: Settings) -> int:
    from service import benchmark

    runner = make_runner(settings)
    try:
        sides = arguments.side or [256, 512]
        for line in benchmark.table(runner, arguments.model, sides, arguments.seconds):
            print(line, flush=True)
    finally:
        runner.close()
    return 0


def models(warm: bool) -> int:
    from models import default_model, installed, load
    from models.manifest import WeightsError

    defaults = {default_model("inpaint", "cpu"), default_model("upscale", "cpu")}
    for entry in installed().values():
        if warm:
            try:
                load(entry.name)
            except WeightsError as error:
                raise UsageError(str(error)) from error
        mark = "*" if entry.name in defaults else " "
        origin = f"{entry.architecture:16} {entry.digest[:12]} {entry.licence}"
        print(f"{mark} {entry.name:20} {entry.task:8} {origin}")
    print("* answers on a CPU when no model is named")
    return 0


def dispatch(arguments: argparse.Namespace) -> int:
    if arguments.command == "train":
        from models.training import command as training

        return training.main(arguments.rest, "retouch train")
    settings = Settings()
    if settings.weights_dir:
        os.environ["RETOUCH_WEIGHTS_DIR"] = str(settings.weights_dir)
    if arguments.command == "evaluate":
        from models.evaluation import command

        return command.main(arguments.rest, "retouch evaluate")
    if arguments.command == "weights":
        from models.checkpoints import command as weights

        return weights.main(arguments.rest)
    if arguments.command == "serve":
        return serve(arguments, settings)
    if arguments.command == "worker":
        return worker(arguments, settings)
    if arguments.command == "models":
        return models(arguments.warm)
    if arguments.command == "batch":
        return batch(arguments, settings)
    if arguments.command == "bench":
        return bench(arguments, settings)
    return one(
        arguments, settings, InpaintParameters if arguments.command == "inpaint" else UpscaleParameters
    )


def main(argv: list[str] | None = None) -> int:
    try:
        return dispatch(build_parser().parse_args(argv))
    except Problem as problem:
        print(f"retouch: {problem.title}: {problem.detail}", file=sys.stderr)
    except ValidationError as error:
        for finding in error.errors():
            print(f"retouch: {'.'.join(map(str, finding['loc']))}: {finding['msg']}", file=sys.stderr)
    except (OSError, UsageError) as error:
        print(f"retouch: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
