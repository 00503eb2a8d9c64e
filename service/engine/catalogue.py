"""The installed models, and what a planner must know of their networks before any is loaded."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

import torch

from models import registry
from models.manifest import SHIPPED, ModelEntry, WeightsError, default_model, read_manifest
from models.network import SizeRule
from service.errors import NotFound, Unavailable
from service.jobs.job import Task
from service.settings import Settings

log = logging.getLogger("retouch.engine")


@dataclass(frozen=True)
class Facts:
    """How large a piece a network works on, what sizes it takes, and how far it looks."""

    window: int
    sides: SizeRule
    receptive_field: int
    sketch: bool


class Catalogue:
    def __init__(self, settings: Settings, device: str) -> None:
        folders = [SHIPPED, *([settings.weights_dir] if settings.weights_dir else [])]
        try:
            listed = {entry.name: entry for folder in folders for entry in read_manifest(folder)}
        except (WeightsError, ValueError, TypeError) as error:
            raise WeightsError(f"cannot read the models' manifest: {error}") from error
        known = registry.architectures()
        self.entries = {name: entry for name, entry in listed.items() if entry.architecture in known}
        for name in listed.keys() - self.entries.keys():
            log.error("model %s is left out: no architecture %r", name, listed[name].architecture)
        self._device = device
        self._facts: dict[str, Facts] = {}
        self._lock = threading.Lock()

    def default(self, task: Task) -> str:
        try:
            return default_model(task, self._device.partition(":")[0], self.entries)
        except WeightsError as error:
            raise Unavailable(str(error)) from error

    def entry(self, name: str) -> ModelEntry:
        if name not in self.entries:
            raise NotFound(f"There is no model {name!r}; installed are: {', '.join(self.entries) or 'none'}.")
        return self.entries[name]

    def resolve(self, task: Task, name: str | None) -> ModelEntry:
        entry = self.entry(name or self.default(task))
        if entry.task != task:
            fitting = ", ".join(other.name for other in self.entries.values() if other.task == task)
            raise NotFound(f"Model {entry.name!r} cannot {task}; those that can: {fitting or 'none'}.")
        return entry

    def facts(self, name: str) -> Facts:
        with self._lock:
            if name not in self._facts:
                self._facts[name] = read_facts(self.entry(name))
            return self._facts[name]

    def describe(self, name: str) -> dict[str, Any]:
        entry, facts = self.entry(name), self.facts(name)
        return {
            "name": name,
            "task": entry.task,
            "architecture": entry.architecture,
            "digest": entry.digest,
            "licence": entry.licence,
            "limits": {"window": facts.window, "sketch": facts.sketch},
        }


def read_facts(entry: ModelEntry) -> Facts:
    kind = registry.get(entry.architecture)
    # On the meta device a network of any size is built without memory or arithmetic.
    with torch.device("meta"):
        net = registry.create(entry.architecture, **entry.arguments)
    return Facts(
        window=net.window,
        sides=net.sides,
        receptive_field=int(getattr(net, "receptive_field", 0)),
        sketch=kind.sketch,
    )
