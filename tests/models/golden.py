"""The golden cases: weights and pictures from names and seeds, answers from the reference implementations."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent.parent / "golden"
SHARED = Path(__file__).parents[3] / "shared" / "golden"

# Folder names that are not the architecture's name with underscores.
ARCHITECTURES = {
    "deepfill-v2-sketch": "deepfill-v2",
    "deepfill-v1-tf": "deepfill-v1",
    "lama-small": "lama",
    "meta-sr-liif": "meta-edsr",
}


def golden_dir() -> Path:
    named = os.environ.get("GOLDEN_DIR")
    if named:
        return Path(named)
    return SHARED if SHARED.is_dir() else HERE


@dataclass(frozen=True)
class Case:
    folder: Path
    file: Path

    @property
    def architecture(self) -> str:
        name = self.folder.name.replace("_", "-")
        return ARCHITECTURES.get(name, name)

    @property
    def about(self) -> dict[str, Any]:
        return about(self.folder)

    def arrays(self) -> dict[str, Any]:
        with np.load(self.file) as file:
            return {name: file[name] for name in file.files}

    def __str__(self) -> str:
        return f"{self.folder.name}-{self.file.stem}"


def cases() -> list[Case]:
    return [
        Case(described.parent, file)
        for described in sorted(golden_dir().glob("*/case.json"))
        for file in sorted(described.parent.glob("*.npz"))
    ]


@cache
def about(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    return read


def seeded(name: str, shape: tuple[int, ...], gain: float) -> Any:
    """The array called `name`, the same whatever order arrays are drawn in."""
    rng = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    noise = rng.standard_normal(shape).astype(np.float32)
    if leaf == "running_var":
        return (0.75 + 0.5 * rng.random(shape)).astype(np.float32)
    if leaf in ("weight_u", "weight_v"):
        return noise / max(float(np.linalg.norm(noise)), 1e-12)
    if len(shape) >= 2:
        return noise * np.float32(gain / np.sqrt(int(np.prod(shape[1:]))))
    return (1.0 + 0.1 * noise if leaf in ("weight", "gamma") else 0.1 * noise).astype(np.float32)


def golden_state(about: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint behind a case, with the constants that two of the networks hold."""
    state = {name: seeded(name, tuple(shape), about["gain"]) for name, shape in about["state"].items()}
    mean = np.array([0.4488, 0.4371, 0.4040], np.float32) * 255
    for name, array in state.items():
        if about["model"] == "partial_conv" and name.endswith("mask_conv.weight"):
            state[name] = np.ones_like(array)
        elif about["model"] == "partial_conv" and name.endswith("input_conv.weight"):
            state[name] = array * np.float32(np.prod(array.shape[1:]))
        elif name.startswith(("sub_mean.", "add_mean.")):
            shift = -mean if name.startswith("sub_mean.") else mean
            state[name] = np.eye(3, dtype=np.float32)[:, :, None, None] if name.endswith("weight") else shift
    return state
