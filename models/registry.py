"""The one list of architectures: what each is called, what it does, and what sizes it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import nn

Task = Literal["inpaint", "upscale"]
Net = TypeVar("Net", bound=type[nn.Module])


@dataclass(frozen=True)
class SizeRule:
    """The heights and widths a network accepts; padding, tiling and tests all read it here."""

    minimum: int = 1
    multiple: int = 1

    def accepts(self, side: int) -> bool:
        return side >= self.minimum and side % self.multiple == 0

    def round_up(self, side: int) -> int:
        return max(self.minimum, -(-side // self.multiple) * self.multiple)


@dataclass(frozen=True)
class Architecture:
    name: str
    task: Task
    paper: str
    build: Callable[..., nn.Module]
    size: SizeRule
    window: int
    sketch: bool = False
    exportable: bool = True


_ARCHITECTURES: dict[str, Architecture] = {}


def architecture(
    name: str,
    *,
    task: Task,
    paper: str,
    size: SizeRule,
    window: int,
    sketch: bool = False,
    exportable: bool = True,
) -> Callable[[Net], Net]:
    """Class decorator that enters a network into the registry.

    `size` and `window` describe the network as its defaults build it; an instance whose arguments change
    them says so in its own `multiple`, `minimum` and `window` attributes.
    """

    def enter(cls: Net) -> Net:
        if name in _ARCHITECTURES:
            raise ValueError(f"architecture {name!r} is registered twice")
        _ARCHITECTURES[name] = Architecture(name, task, paper, cls, size, window, sketch, exportable)
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


def create(name: str, /, **kwargs: Any) -> nn.Module:
    """A fresh network of the architecture `name`, with randomly initialised weights."""
    return get(name).build(**kwargs)


def size_rule(net: nn.Module) -> SizeRule:
    """The rule of this very network, which may be stricter than its architecture's default."""
    return SizeRule(int(getattr(net, "minimum", 1)), int(getattr(net, "multiple", 1)))
