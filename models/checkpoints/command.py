"""`retouch weights`: public checkpoints into a folder of one's own, and what is installed looked at."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from models import manifest, registry
from models.checkpoints import CheckpointError
from models.checkpoints.isolated import Converted, converted
from models.export import heavy_part, to_onnx


def build_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(program)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    importing = actions.add_parser("import", help="take a public checkpoint into RETOUCH_WEIGHTS_DIR")
    importing.add_argument("file", type=Path)
    importing.add_argument("--as", dest="architecture", help="default: told by the checkpoint's keys")
    importing.add_argument("--name", help="what callers will ask for; default: the file's name")
    importing.add_argument("--companion", type=Path, help="the second file of a network that has two")
    importing.add_argument("--licence", default="unknown: see the checkpoint's source")
    importing.add_argument("--channel-order", choices=["rgb", "bgr"], help="where the file does not tell")
    actions.add_parser("list", help="what is installed, and from where")
    actions.add_parser("verify", help="compare every file with its digest, and load it")
    export = actions.add_parser("export", help="write a model as ONNX")
    export.add_argument("model")
    export.add_argument("--onnx", type=Path, required=True)
    return parser


def main(argv: list[str] | None = None, program: str = "retouch weights") -> int:
    arguments = build_parser(program).parse_args(argv)
    actions = {"import": take_in, "list": show, "verify": verify, "export": export}
    try:
        return actions[arguments.action](arguments)
    except (CheckpointError, manifest.WeightsError, OSError) as error:
        print(f"{program}: {error}")
    except KeyError as error:  # an unknown architecture or model, said in full
        print(f"{program}: {error.args[0]}")
    return 1


def take_in(arguments: argparse.Namespace) -> int:
    own = os.environ.get("RETOUCH_WEIGHTS_DIR")
    if not own:
        raise CheckpointError("set RETOUCH_WEIGHTS_DIR to the folder that shall hold your weights")
    name = arguments.name or arguments.file.stem
    options = {"channel_order": arguments.channel_order} if arguments.channel_order else {}
    with converted(
        arguments.file, architecture=arguments.architecture, companion=arguments.companion, **options
    ) as ours:
        about = {"licence": arguments.licence, "source": f"imported from {arguments.file.name}"}
        row = install(ours, name, Path(own), about)
    print(f"{name}: {row['architecture']} {row['arguments']}, {row['file']}, sha256 {row['sha256'][:12]}")
    return 0


def install(ours: Converted, name: str, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Weights and their manifest row, in this order: a row must never name a file that is not there."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise CheckpointError(f"a model's name is made of letters, digits, dots and dashes, not {name!r}")
    if any(entry.name == name for entry in manifest.read_manifest(folder)):
        raise CheckpointError(f"there is a model {name!r} in {folder} already; choose another --name")
    content = ours.file.read_bytes()
    row = {"name": name, "file": f"{name}.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
    row |= {"architecture": ours.architecture, "arguments": ours.arguments} | about
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(content)
    with (folder / manifest.MANIFEST).open("a", encoding="utf-8") as file:
        file.write("\n[[model]]\n" + "".join(f"{key} = {as_toml(value)}\n" for key, value in row.items()))
    return row


def as_toml(value: Any) -> str:
    """A value as TOML writes it; but for tables that is JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {as_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


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
    if not registry.get(entry.architecture).exportable:
        raise CheckpointError(f"{entry.architecture} is an algorithm; it has no ONNX form")
    module, inputs, names = heavy_part(net, entry.task)
    arguments.onnx.write_bytes(to_onnx(module, inputs, names))
    print(f"{arguments.onnx}: {', '.join(names)} -> answer, any batch, height and width")
    return 0
