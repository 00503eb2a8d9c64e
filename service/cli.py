"""`retouch`: serve, or use the same engine on files, without HTTP."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from service import files
from service.errors import Problem
from service.files import UsageError
from service.settings import Settings
from service.work import TASKS, Parameters, Task


def add_parameters(parser: argparse.ArgumentParser, model: type[Parameters]) -> None:
    """One option a parameter, so that the command line and HTTP cannot drift apart."""
    for name, field in model.model_fields.items():
        option = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(option, action="store_const", const=True, help=field.description)
        else:
            parser.add_argument(option, help=f"{field.description} Default: {field.default}")


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
    inpaint.add_argument("image", type=Path, metavar="photo")
    inpaint.add_argument("mask", type=Path, nargs="?", help="left out: the picture's transparency")
    inpaint.add_argument("--sketch", type=Path)

    upscale = commands.add_parser("upscale", help="enlarge one picture")
    upscale.add_argument("image", type=Path, metavar="photo")

    batch = commands.add_parser("batch", help="work through a folder; what is done already is skipped")
    tasks = batch.add_subparsers(dest="task", required=True, metavar="TASK")
    folders = {task: tasks.add_parser(task) for task in TASKS}
    for folder in folders.values():
        folder.add_argument("folder", type=Path)
        folder.add_argument("--server", help="send them to a service as jobs; its key: RETOUCH_API_KEY")
    folders["inpaint"].add_argument(
        "--masks", type=Path, help="folder with a mask of the same stem a picture"
    )
    singles: dict[Task, argparse.ArgumentParser] = {"inpaint": inpaint, "upscale": upscale}
    for task, kind in TASKS.items():
        for command in (singles[task], folders[task]):
            command.add_argument("-o", "--output", type=Path, required=True)
            add_parameters(command, kind.parameters)

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

    # These have parsers of their own, where the networks are at hand.
    for name, text in (
        ("train", "train a network as a config says"),
        ("evaluate", "judge models on folders of pictures"),
        ("weights", "import, list, verify and export weights"),
    ):
        other = commands.add_parser(name, help=text, add_help=False)
        other.add_argument("rest", nargs=argparse.REMAINDER)
    return parser


def serve(arguments: argparse.Namespace, settings: Settings) -> int:
    from service.app import create_app
    from service.server import run_server

    settings = set_up(arguments, settings)
    app = create_app(settings)
    dispatcher = app.state.services.dispatcher
    names = ", ".join(row["name"] for row in dispatcher.models()) or "as the workers announce them"
    address = f"http://{settings.host}:{settings.port}"
    print(f"Retouch on {address} ({dispatcher.device}); models: {names}", flush=True)
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


def bench(arguments: argparse.Namespace, settings: Settings) -> int:
    from service import benchmark

    with files.pipeline_of(settings) as pipeline:
        benchmark.show(pipeline, arguments.model, arguments.side or [256, 512], arguments.seconds)
    return 0


def models(arguments: argparse.Namespace, settings: Settings) -> int:
    from models import default_model, installed, load
    from models.manifest import WeightsError

    defaults = {default_model(task, "cpu") for task in TASKS}
    for entry in installed().values():
        if arguments.warm:
            try:
                load(entry.name)
            except WeightsError as error:
                raise UsageError(str(error)) from error
        mark = "*" if entry.name in defaults else " "
        origin = f"{entry.architecture:16} {entry.digest[:12]} {entry.licence}"
        print(f"{mark} {entry.name:20} {entry.task:8} {origin}")
    print("* answers on a CPU when no model is named")
    return 0


def train(arguments: argparse.Namespace) -> int:
    from models.training import command

    return command.main(arguments.rest, "retouch train")


def evaluate(arguments: argparse.Namespace) -> int:
    from models.evaluation import command

    return command.main(arguments.rest, "retouch evaluate")


def weights(arguments: argparse.Namespace) -> int:
    from models.checkpoints import command

    return command.main(arguments.rest)


WITHOUT_SETTINGS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": train,
    "evaluate": evaluate,
    "weights": weights,
}
WITH_SETTINGS: dict[str, Callable[[argparse.Namespace, Settings], int]] = {
    "serve": serve,
    "worker": worker,
    "models": models,
    "bench": bench,
    "batch": files.batch,
    "inpaint": files.one,
    "upscale": files.one,
}


def run(arguments: argparse.Namespace) -> int:
    if act := WITHOUT_SETTINGS.get(arguments.command):
        return act(arguments)
    return WITH_SETTINGS[arguments.command](arguments, Settings())


def main(argv: list[str] | None = None) -> int:
    try:
        return run(build_parser().parse_args(argv))
    except Problem as problem:
        print(f"retouch: {problem.title}: {problem.detail}", file=sys.stderr)
    except ValidationError as error:
        for finding in error.errors():
            where = "".join(f"{part}: " for part in finding["loc"])
            print(f"retouch: {where}{finding['msg']}", file=sys.stderr)
    except (OSError, UsageError) as error:
        print(f"retouch: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
