"""Public checkpoints in: from the key names of each public implementation to our networks.

One module an architecture registers an importer. An importer recognises a checkpoint by its keys,
deduces the constructor's arguments from the tensors' shapes, and renames the keys; what is missing or left
over is reported by the first key of each kind. `to_public` is its inverse, which lets a test round-trip any
constructor arguments without a single real weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models import registry

PublicState = Mapping[str, Any]
State = dict[str, Tensor]


class CheckpointError(ValueError):
    """The checkpoint is not what it should be; the message says which key gave it away."""


class Unknown(CheckpointError):
    """No importer recognises it."""


@dataclass(frozen=True)
class Importer:
    architecture: str
    recognises: Callable[[State], bool]
    # (state without wrappers, options) -> (constructor arguments, state under our names)
    convert: Callable[..., tuple[dict[str, Any], State]]
    to_public: Callable[[nn.Module], State]


_IMPORTERS: dict[str, Importer] = {}


def register(importer: Importer) -> Importer:
    _IMPORTERS[importer.architecture] = importer
    return importer


def importers() -> dict[str, Importer]:
    return dict(_IMPORTERS)


def as_tensor(value: Tensor | npt.NDArray[Any]) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value, order="C"))


WRAPPERS = (
    "running_average_generator", "parameters", "state_dict", "model", "sd", "G", "netG", "generator",
    "params_ema", "params",
)  # fmt: skip


def unwrap(state: PublicState) -> State:
    """The flat dict of tensors inside the containers that public training code wraps round it."""
    current: Mapping[str, Any] = state
    while True:
        if any(isinstance(value, Tensor | np.ndarray) for value in current.values()):
            break
        inner = next((current[key] for key in WRAPPERS if isinstance(current.get(key), Mapping)), None)
        if inner is None:
            raise CheckpointError(
                "no tensors found in the checkpoint; its top keys are: "
                + ", ".join(map(str, list(current)[:8]))
            )
        current = inner
    return {key: as_tensor(value) for key, value in current.items() if isinstance(value, Tensor | np.ndarray)}


def strip_prefix(state: State, *prefixes: str) -> State:
    """Without the data-parallel or Lightning prefix of the wanted keys; keys that lack it are dropped."""
    for prefix in prefixes:
        inside = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        if inside:
            return inside
    return state


def renamed(state: State, modules: Mapping[str, str]) -> State:
    """With other names of modules; a key whose module has none keeps its name, so that it is reported."""
    answer: State = {}
    for key, value in state.items():
        module, dot, leaf = key.rpartition(".")
        answer[modules.get(module, module) + dot + leaf] = value
    return answer


def swapped(names: Mapping[str, str]) -> dict[str, str]:
    return {value: key for key, value in names.items()}


def recognise(state: PublicState) -> str:
    """The name of the architecture that a checkpoint belongs to, by its keys."""
    flat = unwrap(state)
    for name, importer in _IMPORTERS.items():
        if importer.recognises(flat):
            return name
    raise Unknown(f"no architecture recognises this checkpoint; its first key is {next(iter(flat), None)!r}")


def load_public(name: str, state: PublicState, **options: Any) -> nn.Module:
    """The network `name` in eval mode with the weights of a public checkpoint's state dict."""
    return import_public(name, state, **options)[1]


def import_public(name: str, state: PublicState, **options: Any) -> tuple[dict[str, Any], nn.Module]:
    """The same, with the constructor's arguments that the checkpoint told."""
    if name not in _IMPORTERS:
        raise CheckpointError(f"no importer for {name!r}; there are: {', '.join(sorted(_IMPORTERS))}")
    importer = _IMPORTERS[name]
    try:
        arguments, converted = importer.convert(unwrap(state), **options)
    except KeyError as error:
        raise CheckpointError(f"{name}: the checkpoint has no key {error.args[0]!r}") from error
    net = registry.create(name, **arguments)
    fill(net, converted, name)
    return arguments, net.eval()


def fill(net: nn.Module, state: State, name: str) -> None:
    """Load `state` strictly; one clear error for what does not fit."""
    own = net.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    if missing or unexpected:
        said = [
            f"{kind} {len(keys)} keys, first {keys[0]!r}"
            for kind, keys in (("misses", missing), ("has unexpected", unexpected))
            if keys
        ]
        raise CheckpointError(f"{name}: the checkpoint {' and '.join(said)}")
    for key, value in state.items():
        if own[key].shape != value.shape:
            raise CheckpointError(
                f"{name}: {key!r} has shape {tuple(value.shape)}, not {tuple(own[key].shape)}"
            )
    net.load_state_dict(state, strict=True)
