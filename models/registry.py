"""The one list of architectures: what each is called and what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from models.network import Network

Task = Literal["inpaint", "upscale"]
Net = TypeVar("Net", bound=type[Network])


@dataclass(frozen=True)
class Architecture:
    name: str
    task: Task
    paper: str
    build: type[Network]
    sketch: bool = False
    exportable: bool = True
    draws: bool = False  # at random, from the keyword argument `seed`
    chooses: bool = False  # by values, so that rounding may change what: computed in float32 everywhere


_ARCHITECTURES: dict[str, Architecture] = {}


def architecture(
    name: str,
    *,
    task: Task,
    paper: str,
    sketch: bool = False,
    exportable: bool = True,
    draws: bool = False,
    chooses: bool = False,
) -> Callable[[Net], Net]:
    """Class decorator that enters a network into the registry."""

    def enter(cls: Net) -> Net:
        if name in _ARCHITECTURES:
            raise ValueError(f"architecture {name!r} is registered twice")
        for fact in ("sides", "window"):
            if not hasattr(cls, fact):
                raise ValueError(f"architecture {name!r} does not say its {fact}")
        _ARCHITECTURES[name] = Architecture(name, task, paper, cls, sketch, exportable, draws, chooses)
        return cls

    return enter


def architectures() -> dict[str, Architecture]:
    return dict(_ARCHITECTURES)


def get(name: str) -> Architecture:
    try:
        return _ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(sorted(_ARCHITECTURES))
        raise KeyError(f"no architecture {name!r}; there are: {known}") from None


def create(name: str, /, **kwargs: Any) -> Network:
    """A fresh network of the architecture `name`, with randomly initialised weights."""
    return get(name).build(**kwargs)
