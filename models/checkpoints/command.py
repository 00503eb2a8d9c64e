"""`retouch weights`: public checkpoints into a folder of one's own, and what is installed looked at."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from models import manifest, registry
from models.checkpoints import CheckpointError
from models.checkpoints.catalogue import find, read_catalogue
from models.checkpoints.isolated import converted
from models.checkpoints.own import install, make_default, own_folder, refuse_name
from models.checkpoints.pull import pull
from models.export import heavy_part, to_onnx


def build_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(program)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser(
        "available", help="public checkpoints that can be had, their licences, what is installed"
    )
    pulling = actions.add_parser("pull", help="fetch, check and convert a public checkpoint")
    pulling.add_argument("name", nargs="*", help="as `available` lists it")
    pulling.add_argument("--all-of", type=Path, metavar="FILE", help="the names in a file, one a line")
    pulling.add_argument("--accept-licence", action="append", default=[], metavar="LICENCE")
    pulling.add_argument(
        "--file",
        type=Path,
        action="append",
        default=[],
        help="fetched by hand; twice for a network of two files",
    )
    using = actions.add_parser("use", help="let a model answer where none is named")
    using.add_argument("model")
    importing = actions.add_parser("import", help="take a public checkpoint into RETOUCH_WEIGHTS_DIR")
    importing.add_argument("file", type=Path)
    importing.add_argument("--as", dest="architecture", help="default: told by the checkpoint's keys")
    importing.add_argument("--name", help="what callers will ask for; default: the file's name")
    importing.add_argument("--companion", type=Path, help="the second file of a network that has two")
    importing.add_argument("--licence", help="of the file; asked for where only spandrel knows it")
    importing.add_argument("--channel-order", choices=["rgb", "bgr"], help="where the file does not tell")
    actions.add_parser("list", help="what is installed, and from where")
    actions.add_parser("verify", help="compare every file with its digest, and load it")
    export = actions.add_parser("export", help="write a model as ONNX")
    export.add_argument("model")
    export.add_argument("--onnx", type=Path, required=True, metavar="FILE")
    export.add_argument(
        "--scale",
        type=int,
        choices=range(1, 9),
        metavar="N",
        help="of a whole upscaler; default: its features",
    )
    export.add_argument("--sketch", action="store_true", help="keep the input for lines that guide a fill")
    return parser


def main(argv: list[str] | None = None, program: str = "retouch weights") -> int:
    arguments = build_parser(program).parse_args(argv)
    actions = {"available": available, "pull": pull_all, "use": use, "import": take_in}
    actions |= {"list": show, "verify": verify, "export": export}
    try:
        return actions[arguments.action](arguments)
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (CheckpointError, manifest.WeightsError, OSError) as error:
        print(f"{program}: {error}")
    except KeyError as error:  # an unknown architecture or model, said in full
        print(f"{program}: {error.args[0]}")
    return 1


def take_in(arguments: argparse.Namespace) -> int:
    folder, name = own_folder(), arguments.name or arguments.file.stem
    refuse_name(name, folder)
    options = {"channel_order": arguments.channel_order} if arguments.channel_order else {}
    with converted(
        arguments.file, architecture=arguments.architecture, companion=arguments.companion, **options
    ) as ours:
        licence = arguments.licence or licence_of(ours.architecture)
        about = {"licence": licence, "source": f"imported from {arguments.file.name}"}
        row = install(ours, name, folder, about)
    print(f"{name}: {row['architecture']} {row['arguments']}, {row['file']}, sha256 {row['sha256'][:12]}")
    return 0


def licence_of(architecture: str) -> str:
    if architecture != "spandrel":
        return "unknown: see the checkpoint's source"
    if sys.stdin.isatty() and (said := input("The file's licence, as its source states it: ").strip()):
        return said
    raise CheckpointError("say the file's licence, as its source states it: --licence LICENCE")


def available(arguments: argparse.Namespace) -> int:
    here = manifest.installed()
    for checkpoint in read_catalogue().values():
        size = f"{checkpoint.bytes / 1e6:.0f} MB" if checkpoint.bytes else ""
        state = "installed" if checkpoint.name in here else "by hand" if checkpoint.by_hand else ""
        facts = f"{checkpoint.name:26} {checkpoint.architecture:13} {checkpoint.task:8} {size:>7} {state:10}"
        print(f"{facts}{checkpoint.licence}\n{'':26} {checkpoint.good_at}")
    return 0


def pull_all(arguments: argparse.Namespace) -> int:
    names = list(arguments.name)
    if arguments.all_of:
        lines = arguments.all_of.read_text(encoding="utf-8").splitlines()
        names += [name for line in lines if (name := line.partition("#")[0].strip())]
    if not names:
        raise CheckpointError("name a checkpoint, or a file of names with --all-of")
    if arguments.file and len(names) > 1:
        raise CheckpointError("--file goes with one name")
    folder = own_folder()
    for name in names:
        pull(find(name), folder, arguments.accept_licence, arguments.file)
    return 0


def use(arguments: argparse.Namespace) -> int:
    task = make_default(arguments.model, own_folder())
    print(f"{arguments.model} answers {task} from now on where no model is named.")
    print("A service that runs already takes it on SIGHUP, or POST /models/reload.")
    return 0


def show(arguments: argparse.Namespace) -> int:
    for entry in manifest.installed().values():
        where = "shipped" if entry.folder == manifest.SHIPPED else str(entry.folder)
        print(f"{entry.name:20} {entry.architecture:18} {entry.file or 'no weights':32} {where}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    wrong = 0
    for entry in manifest.installed().values():
        try:
            manifest.load(entry.name, entry)
            print(f"{entry.name}: as its manifest says")
        except (manifest.WeightsError, RuntimeError, KeyError, TypeError) as error:
            wrong += 1
            print(f"{entry.name}: {error}")
    return 1 if wrong else 0


def export(arguments: argparse.Namespace) -> int:
    net = manifest.load(arguments.model)
    entry = manifest.installed()[arguments.model]
    kind = registry.get(entry.architecture)
    if not kind.exportable:
        raise CheckpointError(f"{entry.architecture} is an algorithm; it has no ONNX form")
    if arguments.scale and kind.task != "upscale":
        raise CheckpointError("only upscalers have a scale")
    if arguments.sketch and not kind.sketch:
        raise CheckpointError(f"{entry.architecture} takes no sketch")
    try:
        module, inputs, names = heavy_part(net, kind.task, arguments.scale, arguments.sketch)
    except ValueError as error:
        raise CheckpointError(f"{arguments.model}: {error}") from error
    fixed = net.sides.minimum == net.sides.maximum
    facts = {
        "model": entry.name,
        "architecture": entry.architecture,
        "task": kind.task,
        "licence": entry.licence,
        "digest": entry.digest,
        "inputs": ", ".join(names),
        "answer": "features" if kind.task == "upscale" and not arguments.scale else "picture",
        "scale": str(arguments.scale or 1),
        "sides": f"{net.window} alone" if fixed else f"{net.minimum} or more, multiples of {net.multiple}",
        "values": "RGB from 0 to 1; mask and sketch are 1 in the hole, and on a line",
    }
    arguments.onnx.write_bytes(to_onnx(module, inputs, names, facts))
    print(f"{arguments.onnx}: {facts['inputs']} -> {facts['answer']}; sides: {facts['sides']}")
    return 0
