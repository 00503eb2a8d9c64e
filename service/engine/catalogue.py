"""The installed models, and what a planner must know of their networks before any is loaded."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from models import registry
from models.manifest import ModelEntry, WeightsError, default_model, installed
from models.network import SizeRule
from models.upscaling.upscaler import ONE_STEP
from service.errors import NotFound, Unavailable, Unprocessable

if TYPE_CHECKING:
    from service.settings import Settings
    from service.work import Task

log = logging.getLogger("retouch.engine")

# On a GPU windows have sides of multiples of GRID, so that those of several callers fit one batch and one
# graph, and tiles TILE pixels a side, so that less of the work goes into their overlaps.
GRID, TILE = 128, 512


@dataclass(frozen=True)
class Traits:
    """How large a piece a network works on, what sizes it takes, and how far it looks."""

    window: int
    sides: SizeRule
    receptive_field: int
    sketch: bool
    draws: bool = False  # at random, from a seed
    one_step: int = ONE_STEP  # the largest factor that is enlarged by at once
    restores: bool = False  # changes a picture at its own size, too
    grid: int = (
        1  # what the sides of windows and tiles are rounded up to where the picture has more of itself
    )


class Catalogue:
    """`entries` are the models that callers can have, `known` those that runs may have been given before."""

    def __init__(self, settings: Settings, device: str) -> None:
        self._folder = settings.weights_dir
        self._kind = device.partition(":")[0]
        self._traits: dict[str, Traits] = {}
        self.entries: dict[str, ModelEntry] = {}
        self.known: dict[str, ModelEntry] = {}
        self.read()

    def read(self) -> None:
        """Take the manifests as they are now. As long as the process lives a name means the same weights."""
        try:
            listed = installed(self._folder)
        except (WeightsError, ValueError, TypeError) as error:
            raise Unavailable(f"The models' manifest cannot be read: {error}") from error
        for name, entry in listed.items():
            if name in self.known and self.known[name].digest != entry.digest:
                raise Unprocessable(
                    f"Model {name!r} has other weights than before; give them another name, or start anew."
                )
        architectures = registry.architectures()
        traits: dict[str, Traits] = {}
        for name, entry in listed.items():
            if entry.architecture not in architectures:
                log.error("model %s is left out: no architecture %r", name, entry.architecture)
                continue
            try:
                traits[name] = read_traits(entry, self._kind)
            except Exception as error:  # whatever a network says to arguments that it does not take
                log.error("model %s is left out: %s", name, error)
        self._traits = self._traits | traits
        self.entries = {name: listed[name] for name in traits}
        self.known = self.known | self.entries

    def default(self, task: Task, lossy: bool = False) -> str:
        try:
            return default_model(task, self._kind, self.entries, lossy)
        except WeightsError as error:
            raise Unavailable(str(error)) from error

    def entry(self, name: str) -> ModelEntry:
        if name not in self.entries:
            raise NotFound(f"There is no model {name!r}; installed are: {', '.join(self.entries) or 'none'}.")
        return self.entries[name]

    def resolve(self, task: Task, name: str | None, lossy: bool = False) -> ModelEntry:
        entry = self.entry(name or self.default(task, lossy))
        if entry.task != task:
            fitting = ", ".join(other.name for other in self.entries.values() if other.task == task)
            raise NotFound(f"Model {entry.name!r} cannot {task}; those that can: {fitting or 'none'}.")
        return entry

    def traits(self, name: str) -> Traits:
        return self._traits[name]

    def describe(self, name: str) -> dict[str, Any]:
        entry, traits = self.entry(name), self.traits(name)
        return {
            "name": name,
            "task": entry.task,
            "architecture": entry.architecture,
            "licence": entry.licence,
            "restores": traits.restores,
            "limits": {"window": traits.window, "sketch": traits.sketch, "seed": traits.draws},
        }


def read_traits(entry: ModelEntry, device: str) -> Traits:
    kind = registry.get(entry.architecture)
    # On the meta device a network of any size is built without memory or arithmetic.
    with torch.device("meta"):
        net = registry.create(entry.architecture, **entry.arguments)
    window, sides, grid = net.window, net.sides, 1
    if device == "cuda" and kind.task == "upscale":
        window = grid = max(window, TILE)
    elif device == "cuda" and sides.maximum is None:
        grid = math.lcm(sides.multiple, GRID)
        sides = SizeRule(sides.round_up(1), grid)
    return Traits(
        window=window,
        sides=sides,
        receptive_field=int(getattr(net, "receptive_field", 0)),
        sketch=kind.sketch,
        draws=kind.draws,
        one_step=int(getattr(net, "one_step", ONE_STEP)),
        restores=entry.restores or int(getattr(net, "density", 1)) > 1,
        grid=grid,
    )
