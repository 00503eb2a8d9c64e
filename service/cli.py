"""`retouch`: serve, or use the same engine on files, without HTTP."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from service import __version__
from service.allocator import keep_freed_memory
from service.errors import Problem, UsageError

# What takes long to import is imported by the command that needs it: `retouch --help` answers at once.
if TYPE_CHECKING:
    from service.settings import Settings
    from service.work import Parameters

STOPPED = 130  # the status of what Ctrl-C ended, as shells count


def choices_of(annotation: Any) -> tuple[str, ...]:
    return tuple(choice for choice in get_args(annotation) if isinstance(choice, str))


def add_parameters(parser: argparse.ArgumentParser, model: type[Parameters]) -> None:
    """One option a parameter, so that the command line and HTTP cannot drift apart."""
    for name, field in model.model_fields.items():
        option = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(option, action="store_const", const=True, help=field.description)
            continue
        text = f"{field.description}"
        if choices := choices_of(field.annotation):
            text += f" One of: {', '.join(choices)}."
        if name == "format":
            text += " Default: what the output's suffix says, or png."
        elif field.default is not None:
            text += f" Default: {field.default}."
        parser.add_argument(option, help=text, metavar="NAME" if choices else "VALUE")


def output_option(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, help=text)


def resize_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resize-mask", action="store_true", help="bring a mask of another size to the picture's"
    )


def serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="default: RETOUCH_HOST, or 127.0.0.1")
    parser.add_argument("--port", type=int, help="default: RETOUCH_PORT, or 8000; 0: any that is free")


def worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", default="", help="comma-separated; default: all that are installed")
    parser.add_argument("--host", help="of health and metrics; default: RETOUCH_HOST, or 127.0.0.1")
    parser.add_argument("--port", type=int, help="default: RETOUCH_WORKER_PORT, or 8001; 0: any that is free")


def inpaint_options(parser: argparse.ArgumentParser) -> None:
    from service.work import TASKS

    parser.add_argument("image", type=Path, metavar="photo", help="- reads standard input")
    parser.add_argument("mask", type=Path, nargs="?", help="left out: the picture's transparency")
    parser.add_argument("--sketch", type=Path, help=TASKS["inpaint"].files["sketch"])
    resize_option(parser)
    output_option(parser, "the picture to write; - is standard output")
    add_parameters(parser, TASKS["inpaint"].parameters)


def upscale_options(parser: argparse.ArgumentParser) -> None:
    from service.work import TASKS

    parser.add_argument("image", type=Path, metavar="photo", help="- reads standard input")
    output_option(parser, "the picture to write; - is standard output")
    add_parameters(parser, TASKS["upscale"].parameters)


def batch_options(parser: argparse.ArgumentParser) -> None:
    from service.work import TASKS

    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for task, kind in TASKS.items():
        command = tasks.add_parser(task, help=kind.summary, description=f"{kind.summary}, in every picture.")
        command.add_argument("folder", type=Path)
        output_option(command, "the folder to write to")
        command.add_argument("--recursive", action="store_true", help="subfolders too")
        command.add_argument(
            "--server", metavar="URL", help="send jobs to a service; its key: RETOUCH_API_KEY"
        )
        command.add_argument(
            "--wait", type=float, default=0.0, metavar="SECONDS", help="for a server that is starting"
        )
        if "mask" in kind.files:
            masks = command.add_mutually_exclusive_group()
            masks.add_argument("--mask", type=Path, help="one mask for all pictures")
            masks.add_argument("--masks", type=Path, help="folder with a mask of the same stem a picture")
            resize_option(command)
        add_parameters(command, kind.parameters)


def models_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--warm", action="store_true", help="and load each, so that a broken file is found now"
    )


def bench_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", action="append", default=[], help="may be repeated; default: the defaults")
    parser.add_argument(
        "--side", type=int, action="append", help="pixels; may be repeated; default: 256 and 512"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="for each line; default: %(default)g")


def doctor_options(parser: argparse.ArgumentParser) -> None:
    from service.doctor.command import options

    options(parser)


def serve(arguments: argparse.Namespace, settings: Settings) -> int:
    keep_freed_memory()
    from service.app import create_app
    from service.server import bound, run_server

    settings = set_up(arguments, settings)
    with bound(settings.host, settings.port) as listener:
        app = create_app(settings)
        dispatcher = app.state.services.dispatcher

        def announce(address: str) -> None:
            names = ", ".join(row["name"] for row in dispatcher.models()) or "as the workers announce them"
            print(f"Retouch on {address} ({dispatcher.device}); models: {names}", flush=True)

        return run_server(app, settings, listener, announce)


def worker(arguments: argparse.Namespace, settings: Settings) -> int:
    keep_freed_memory()
    from service.server import bound, run_server
    from service.settings import listed
    from service.worker import create_worker

    if not settings.redis_url:
        raise UsageError("a worker needs RETOUCH_REDIS_URL")
    settings = set_up(arguments, settings.model_copy(update={"port": settings.worker_port}))
    names = listed(arguments.models)
    with bound(settings.host, settings.port) as listener:
        app = create_worker(settings, names)
        found = app.state.services.dispatcher

        def announce(address: str) -> None:
            hosted = ", ".join(found.hosted)
            print(f"Retouch worker ({found.device}), health on {address}; models: {hosted}", flush=True)

        return run_server(app, settings, listener, announce)


def set_up(arguments: argparse.Namespace, settings: Settings) -> Settings:
    """Logs, and the settings with the address that the command line names."""
    from service.observability import logs

    logs.configure(settings.log_level, settings.log_format)
    given = {name: getattr(arguments, name) for name in ("host", "port")}
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def bench(arguments: argparse.Namespace, settings: Settings) -> int:
    from service import benchmark, files

    with files.pipeline_of(settings) as pipeline:
        benchmark.show(pipeline, arguments.model, arguments.side or [256, 512], arguments.seconds)
    return 0


def doctor(arguments: argparse.Namespace, settings: Settings) -> int:
    from service.doctor.command import examine

    return examine(arguments, settings)


def models(arguments: argparse.Namespace, settings: Settings) -> int:
    from models import default_model, installed, load
    from models.manifest import WeightsError
    from service.work import TASKS

    try:
        entries = installed(settings.weights_dir)
        defaults = {default_model(task, "cpu", entries) for task in TASKS}
        for entry in entries.values():
            if arguments.warm:
                load(entry.name, entry)
            mark = "*" if entry.name in defaults else " "
            origin = f"{entry.architecture:16} {entry.digest[:12]} {entry.licence}"
            print(f"{mark} {entry.name:20} {entry.task:8} {origin}")
    except (WeightsError, ValueError, KeyError, TypeError) as error:
        raise UsageError(str(error)) from error
    print("* answers on a CPU when no model is named")
    return 0


def one(arguments: argparse.Namespace, settings: Settings) -> int:
    from service import files

    return files.one(arguments, settings)


def batch(arguments: argparse.Namespace, settings: Settings) -> int:
    from service import files

    return files.batch(arguments, settings)


@dataclass(frozen=True)
class Command:
    help: str
    options: Callable[[argparse.ArgumentParser], None]
    act: Callable[[argparse.Namespace, Settings], int]


COMMANDS = {
    "serve": Command("serve HTTP", serve_options, serve),
    "worker": Command("compute what API processes put into Redis", worker_options, worker),
    "inpaint": Command("fill a hole in one picture", inpaint_options, one),
    "upscale": Command("enlarge one picture", upscale_options, one),
    "batch": Command("work through a folder; what is done already is skipped", batch_options, batch),
    "models": Command("list what is installed", models_options, models),
    "doctor": Command("see whether this machine serves well", doctor_options, doctor),
    "bench": Command("measure what this machine does with the installed models", bench_options, bench),
}
# These have parsers of their own, where the networks are at hand.
ELSEWHERE = {
    "train": ("models.training.command", "train a network as a config says"),
    "evaluate": ("models.evaluation.command", "judge models on folders of pictures"),
    "weights": ("models.checkpoints.command", "import, list, verify and export weights"),
}


def build_parser(chosen: str) -> argparse.ArgumentParser:
    """With the options of the chosen command alone: others would import what they are made of for nothing."""
    parser = argparse.ArgumentParser("retouch", description=__doc__)
    parser.add_argument("--version", action="version", version=f"retouch {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help, description=f"{command.help}.")
        if name == chosen:
            command.options(subparser)
    for name, (_, text) in ELSEWHERE.items():
        commands.add_parser(name, help=text)
    return parser


def run(words: Sequence[str]) -> int:
    chosen = next((word for word in words if not word.startswith("-")), "")
    if chosen in ELSEWHERE and words[0] == chosen:
        command = importlib.import_module(ELSEWHERE[chosen][0])
        return int(command.main(list(words[1:]), f"retouch {chosen}"))
    arguments = build_parser(chosen).parse_args(words)
    from service.settings import read_settings

    return COMMANDS[arguments.command].act(arguments, read_settings())


def main(argv: Sequence[str] | None = None) -> int:
    try:
        return run(sys.argv[1:] if argv is None else argv)
    except Problem as problem:
        print(f"retouch: {problem.title}: {problem.detail}", file=sys.stderr)
    except (OSError, UsageError) as error:
        for line in str(error).splitlines():
            print(f"retouch: {line}", file=sys.stderr)
    except KeyboardInterrupt:
        print("retouch: stopped", file=sys.stderr, flush=True)
        # Threads that compute cannot be stopped: the interpreter would wait for them, or abort under them.
        os._exit(STOPPED)
    return 1


if __name__ == "__main__":
    sys.exit(main())
