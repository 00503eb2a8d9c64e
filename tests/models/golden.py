"""The golden cases: weights and pictures from names and seeds, answers from the reference implementations."""

from __future__ import annotations

import json
import os
import re
import zlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent.parent / "golden"
SHARED = [Path(__file__).parents[3] / "shared" / name for name in ("golden", "golden_tables")]

# Folder names that are not the architecture's name with underscores.
ARCHITECTURES = {
    "comodgan-small": "comodgan",
    "comodgan-tf": "comodgan",
    "comodgan-tf-small": "comodgan",
    "context-encoder-small": "context-encoder",
    "deepfill-v2-sketch": "deepfill-v2",
    "deepfill-v1-tf": "deepfill-v1",
    "gcpr-small": "gcpr",
    "glcic-mmagic": "glcic",
    "glcic-relu-first": "glcic",
    "hifill-512": "hifill",
    "lama-small": "lama",
    "mat-small": "mat",
    "meta-sr-liif": "meta-edsr",
    "migan-512": "migan",
    "migan-small": "migan",
}
DRAWN = re.compile(r"z|truncation_psi|noise\d+|keep\d")
KEPT = {"keep1": (256, 180), "keep2": (512, 16, 16)}  # packed, and of these shapes a sample


def golden_dirs() -> list[Path]:
    named = os.environ.get("GOLDEN_DIR")
    if named:
        return [Path(named)]
    return [folder for folder in SHARED if folder.is_dir()] or [HERE]


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

    def drawn(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """What the reference drew at random, by the names of our keyword arguments."""
        found = {key: value for key, value in arrays.items() if DRAWN.fullmatch(key)}
        batch = len(arrays["image"])
        for name, shape in KEPT.items():
            if name in found:
                count = batch * int(np.prod(shape))
                found[name] = np.unpackbits(found[name], count=count).reshape(batch, *shape).astype(bool)
        described = re.search(r"Philox\(key=(\d+)\)", self.about.get("inputs", {}).get("noise", ""))
        if described:  # not stored: from 4x4 up, two maps a size but for the first
            rng = np.random.Generator(np.random.Philox(key=int(described[1])))
            sizes = [2 ** (index // 2) for index in range(5, 2 * arrays["image"].shape[-1].bit_length())]
            for index, side in enumerate(sizes):
                found[f"noise{index}"] = rng.standard_normal((1, 1, side, side)).astype(np.float32)
        return found

    def __str__(self) -> str:
        return f"{self.folder.name}-{self.file.stem}"


def cases() -> list[Case]:
    return [
        Case(described.parent, file)
        for folder in golden_dirs()
        for described in sorted(folder.glob("*/case.json"))
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
    return np.asarray(1.0 + 0.1 * noise if leaf in ("weight", "gamma") else 0.1 * noise, np.float32)


def golden_state(about: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint behind a case, with the constants that two of the networks hold, and its rules."""
    gain = about["gain"]
    state = {name: seeded(name, tuple(shape), gain) for name, shape in about["state"].items()}
    mean = np.array([0.4488, 0.4371, 0.4040], np.float32) * 255
    for name, array in state.items():
        if about["model"] == "partial_conv" and name.endswith("mask_conv.weight"):
            state[name] = np.ones_like(array)
        elif about["model"] == "partial_conv" and name.endswith("input_conv.weight"):
            state[name] = array * np.float32(np.prod(array.shape[1:]))
        elif name.startswith(("sub_mean.", "add_mean.")):
            shift = -mean if name.startswith("sub_mean.") else mean
            state[name] = np.eye(3, dtype=np.float32)[:, :, None, None] if name.endswith("weight") else shift
        rule = next((rule for rule in about.get("rules", ()) if fnmatchcase(name, rule["names"])), None)
        if rule is not None:
            state[name] = ruled(array, rule, gain)
    return state


def ruled(array: Any, rule: dict[str, Any], gain: float) -> Any:
    """An array at another scale (`hwio`: its last axis is the leaving channels'), or a constant pattern."""
    if "tile" in rule:
        pattern = np.array(rule["tile"], np.float32)
        last = array.shape[array.ndim - pattern.ndim :]
        tiled = np.tile(pattern, [whole // part for whole, part in zip(last, pattern.shape, strict=True)])
        return np.broadcast_to(tiled, array.shape).copy()
    fan_in = np.sqrt(float(np.prod(array.shape[1:])))
    factor = rule.get("times", 1.0)
    if rule.get("hwio"):
        factor *= fan_in / np.sqrt(float(np.prod(array.shape[:-1])))
    if "std" in rule:
        factor *= rule["std"] * fan_in / gain
    return np.asarray(array * np.float32(factor) + np.float32(rule.get("plus", 0.0)))
