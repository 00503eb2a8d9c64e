"""Which models are installed: `manifest.toml` beside the weights, and the loading of one of them.

A model is an architecture with constructor arguments and, unless it needs none, a safetensors file whose
SHA-256 is checked before the file is opened. Shipped models live in `weights/`; a user's own in the folder
named by RETOUCH_WEIGHTS_DIR, whose rows win over shipped ones of the same name.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors

from models import registry
from models.network import Network

SHIPPED = Path(__file__).resolve().parent / "weights"  # a link where the code lies, the files in a wheel
MANIFEST = "manifest.toml"


class WeightsError(Exception):
    """A model's weights are missing or are not what the manifest says; the message is fit to show."""


@dataclass(frozen=True)
class ModelEntry:
    name: str
    architecture: str
    folder: Path
    file: str | None = None
    sha256: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    default_on: tuple[str, ...] = ()  # device kinds ("cpu", "cuda") on which this is its task's default
    lossy_on: tuple[str, ...] = ()  # and those on which it is for pictures that came compressed with loss
    restores: bool = False  # changes a picture at its own size, too
    quality: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> registry.Task:
        return registry.get(self.architecture).task

    @property
    def digest(self) -> str:
        """What the answers depend on: the weights' digest, or the arguments where there are no weights."""
        if self.sha256 is not None:
            return self.sha256
        return hashlib.sha256(repr((self.architecture, sorted(self.arguments.items()))).encode()).hexdigest()

    @property
    def path(self) -> Path | None:
        return self.folder / self.file if self.file else None


def weights_folders(own: Path | None = None) -> list[Path]:
    """`own` is what RETOUCH_WEIGHTS_DIR says, unless the caller knows better."""
    named = own or os.environ.get("RETOUCH_WEIGHTS_DIR")
    return [SHIPPED, *([Path(named)] if named else [])]


def read_manifest(folder: Path) -> list[ModelEntry]:
    path = folder / MANIFEST
    if not path.is_file():
        return []
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("model", [])
    entries = []
    for row in rows:
        row = dict(row)
        for field_of_devices in ("default_on", "lossy_on"):
            row[field_of_devices] = tuple(row.get(field_of_devices, ()))
        if row.get("file") and Path(row["file"]).name != row["file"]:
            raise WeightsError(f"{path}: file of model {row.get('name')!r} must be a plain file name")
        entries.append(ModelEntry(folder=folder, **row))
    return entries


def as_toml(value: Any) -> str:
    """A value as TOML writes it; but for tables that is JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {as_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def installed(own: Path | None = None) -> dict[str, ModelEntry]:
    """Every model by name, in manifest order."""
    return {entry.name: entry for folder in weights_folders(own) for entry in read_manifest(folder)}


def default_model(
    task: registry.Task, device: str, models: dict[str, ModelEntry] | None = None, lossy: bool = False
) -> str:
    """The model (of `models`, or of all installed ones) that answers when the caller names none."""
    entries = installed() if models is None else models
    candidates = [entry for entry in entries.values() if entry.task == task]
    for entry in reversed(candidates if lossy else []):
        if device in entry.lossy_on:
            return entry.name
    for entry in reversed(candidates):
        if device in entry.default_on:
            return entry.name
    if not candidates:
        raise WeightsError(f"no model for {task} is installed")
    return candidates[0].name


def read_weights(entry: ModelEntry) -> dict[str, torch.Tensor]:
    """A model's tensors, in float32, after its file's digest was checked."""
    path = entry.path
    if path is None:
        return {}
    if path.exists() and not path.is_file():  # a pipe would keep its reader waiting, a device never end
        raise WeightsError(f"model {entry.name!r}: {path.name} is not a file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"model {entry.name!r}: cannot read {path.name}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise WeightsError(f"model {entry.name!r}: {path.name} does not match its digest in {MANIFEST}")
    tensors = load_safetensors(content)
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def load(model: str, entry: ModelEntry | None = None) -> Network:
    """The installed model `model`, in eval mode on the CPU."""
    if entry is None:
        models = installed()
        if model not in models:
            raise KeyError(f"no model {model!r}; installed are: {', '.join(models) or 'none'}")
        entry = models[model]
    net = registry.create(entry.architecture, **entry.arguments)
    if entry.file is not None:
        net.load_state_dict(read_weights(entry), strict=True)
    return net.eval()
