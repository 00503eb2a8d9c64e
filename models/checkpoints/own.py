"""The folder of one's own weights: written whole or not at all, whoever else writes at the same time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models import manifest, registry
from models.checkpoints.importer import CheckpointError
from models.checkpoints.isolated import Converted

DEVICES = ["cpu", "cuda"]
BLOCK = re.compile(r"^\[\[model\]\][^\n]*\n", re.MULTILINE)
CHOSEN = "".join(f"{key} = {json.dumps(DEVICES)}\n" for key in ("default_on", "lossy_on"))
DEFAULT_ON = re.compile(r"^(?:default_on|lossy_on)\s*=\s*\[[^\]]*\][^\n]*\n", re.MULTILINE)


def own_folder() -> Path:
    own = os.environ.get("RETOUCH_WEIGHTS_DIR")
    if not own:
        raise CheckpointError("set RETOUCH_WEIGHTS_DIR to the folder that shall hold your weights")
    folder = Path(own)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def alone(file: Path, waiting: str = "") -> Iterator[None]:
    """One process at a time; `waiting` is said by those that come later."""
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sha256_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def has(name: str, folder: Path) -> bool:
    return any(entry.name == name for entry in manifest.read_manifest(folder))


def refuse_name(name: str, folder: Path) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise CheckpointError(f"a model's name is made of letters, digits, dots and dashes, not {name!r}")
    if has(name, folder):
        raise CheckpointError(f"there is a model {name!r} in {folder} already; choose another --name")


def install(ours: Converted, name: str, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Weights and their manifest row, in this order: a row must never name a file that is not there."""
    with alone(folder / ".lock"):
        refuse_name(name, folder)
        target = folder / f"{name}.safetensors"
        row = {"name": name, "file": target.name, "sha256": sha256_of(ours.file)}
        row |= {"architecture": ours.architecture, "arguments": ours.arguments} | about
        arriving = folder / f".{target.name}"
        try:
            shutil.copyfile(ours.file, arriving)
            arriving.replace(target)
        finally:
            arriving.unlink(missing_ok=True)
        written = "".join(f"{key} = {manifest.as_toml(value)}\n" for key, value in row.items())
        rewrite(folder, f"{manifest_text(folder)}\n[[model]]\n{written}")
    return row


def make_default(name: str, folder: Path) -> registry.Task:
    """The own model `name` answers from now on where none is named; or a shipped default does again."""
    with alone(folder / ".lock"):
        models = manifest.installed()
        if name not in models:
            raise KeyError(f"no model {name!r}; installed are: {', '.join(models)}")
        task = models[name].task
        own = {entry.name for entry in manifest.read_manifest(folder)}
        shipped = {entry.name: entry for entry in models.values() if entry.name not in own}
        if name in shipped and any(manifest.default_model(task, on, shipped) != name for on in DEVICES):
            raise CheckpointError(
                f"{name} ships with Retouch and is not its default; only a model of {folder} can be made one"
            )
        others = {entry.name for entry in models.values() if entry.name in own and entry.task == task}
        rewrite(folder, with_default(manifest_text(folder), name, others))
    return task


def with_default(text: str, name: str, others: set[str]) -> str:
    """The manifest's text with the row `name` as default, and no more those of `others`."""
    starts = [match.start() for match in BLOCK.finditer(text)]
    pieces = [text[: starts[0]]] if starts else [text]
    for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
        block = text[start:stop]
        (row,) = tomllib.loads(block)["model"]
        if row["name"] in others:
            block = DEFAULT_ON.sub("", block)
        if row["name"] == name:
            block = BLOCK.sub(lambda head: head[0] + CHOSEN, block)
        pieces.append(block)
    return "".join(pieces)


def manifest_text(folder: Path) -> str:
    path = folder / manifest.MANIFEST
    return path.read_text(encoding="utf-8") if path.exists() else ""


def rewrite(folder: Path, text: str) -> None:
    tomllib.loads(text)  # nothing that cannot be read is ever written
    arriving = folder / f".{manifest.MANIFEST}"
    arriving.write_text(text, encoding="utf-8")
    arriving.replace(folder / manifest.MANIFEST)
