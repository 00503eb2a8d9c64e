"""A checked-in config file as a recipe and a schedule."""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models import registry
from models.manifest import MANIFEST, as_toml, installed, read_weights
from models.training import foreground_aware, inpaint, loop, restore, upscale
from models.training.errors import TrainingError
from models.training.overlap import refuse_overlap

# What a task's config becomes: (config, photographs, folder for caches, device, feature network) -> recipe.
MakeRecipe = Callable[[dict[str, Any], Path, Path, torch.device, Path | None], loop.Recipe]
RECIPES: dict[registry.Task, MakeRecipe] = {
    "inpaint": inpaint.make_recipe,
    "upscale": upscale.make_recipe,
}
# Architectures that learn in a way of their own.
OWN_RECIPES: dict[str, MakeRecipe] = {"foreground-aware": foreground_aware.make_recipe}


def maker(config: dict[str, Any]) -> MakeRecipe:
    architecture = config["architecture"]
    if "lessons" in config["recipe"]:
        return restore.make_recipe
    return OWN_RECIPES.get(architecture) or RECIPES[registry.get(architecture).task]


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    config_path: Path,
    data_dir: Path,
    minutes: float | None = None,
    out_dir: Path | None = None,
    resume: bool = True,
    held_out: Path | None = None,
    features: Path | None = None,
    start: str | None = None,
    tell: loop.Tell = loop.silent,
    leg: float = math.inf,
) -> Path:
    """Train as `config_path` says on the photographs in `data_dir`; the file of the averaged weights.

    Refuses photographs that are also under `held_out`: by default the folder `eval` beside the data, if any.
    `features` is the file of a pretrained feature network, for configs that ask for its losses; `start` names
    an installed model whose weights a new run begins with.
    """
    config = tomllib.loads(config_path.read_text(encoding="utf-8"))
    out = out_dir or Path("runs") / config_path.stem
    schedule = dict(config["schedule"])
    if minutes is not None:
        schedule["minutes"] = minutes
    judged = held_out or data_dir.resolve().parent / "eval"
    if held_out is not None or judged.is_dir():
        refuse_overlap(data_dir, judged)
    try:
        recipe = maker(config)(config, data_dir, out.parent / "cache", best_device(), features)
    except TypeError as error:  # a name in the config that the recipe does not know
        raise TrainingError(f"{config_path.name}: {error}") from error
    if start is not None:
        begin_as(recipe.net, start)
    weights = loop.run(recipe, loop.Schedule(**schedule), out, resume, tell, leg)
    describe(config, weights)
    return weights


def begin_as(net: nn.Module, model: str) -> None:
    """`net` with the weights of an installed model of the same architecture.

    A network that is deeper than that model keeps its own beginning in the blocks that the model lacks.
    """
    if model not in installed():
        raise TrainingError(f"no model {model!r} is installed to start from")
    try:
        strange = net.load_state_dict(read_weights(installed()[model]), strict=False).unexpected_keys
    except RuntimeError as error:
        raise TrainingError(f"the weights of {model!r} do not fit this config's network: {error}") from error
    if strange:
        raise TrainingError(f"this config's network has no place for {strange[0]!r} of {model!r}")


def describe(config: dict[str, Any], weights: Path) -> None:
    """A manifest beside the weights: the run's folder can be RETOUCH_WEIGHTS_DIR, and names the model."""
    row = {
        "name": weights.parent.name,
        "architecture": config["architecture"],
        "file": weights.name,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "arguments": config["recipe"].get("arguments", {}),
        "source": "trained here",
    }
    lines = "".join(f"{key} = {as_toml(value)}\n" for key, value in row.items())
    (weights.parent / MANIFEST).write_text("[[model]]\n" + lines, encoding="utf-8")
