"""A checked-in config file as a recipe and a schedule."""

from __future__ import annotations

import tomllib
from pathlib import Path

import torch

from models.training import loop
from models.training.upscale import UpscaleConfig, UpscaleRecipe


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    config_path: Path,
    data_dir: Path,
    minutes: float | None = None,
    out_dir: Path | None = None,
    resume: bool = True,
) -> Path:
    """Train as `config_path` says on the photographs in `data_dir`; the file of the averaged weights."""
    config = tomllib.loads(config_path.read_text(encoding="utf-8"))
    out = out_dir or Path("runs") / config_path.stem
    schedule = dict(config["schedule"])
    if minutes is not None:
        schedule["minutes"] = minutes
    recipe_config = UpscaleConfig(**config["recipe"])
    recipe = UpscaleRecipe(
        config["architecture"], recipe_config, data_dir, out.parent / "cache", best_device()
    )
    return loop.run(recipe, loop.Schedule(**schedule), out, resume)
