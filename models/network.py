"""What every network of the registry says of itself: the sides that it takes, and its working size."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class SizeRule:
    """The heights and widths a network accepts; padding, tiling and tests all read it here.

    A network of one size alone says it three times, and has it for its window.
    """

    minimum: int = 1
    multiple: int = 1
    maximum: int | None = None

    def accepts(self, side: int) -> bool:
        most = side if self.maximum is None else self.maximum
        return self.minimum <= side <= most and side % self.multiple == 0

    def round_up(self, side: int) -> int:
        return max(self.minimum, -(-side // self.multiple) * self.multiple)


class Network(nn.Module):
    """`sides` and `window` stand on the class for its default arguments; where others change them, an
    instance has its own."""

    sides: SizeRule
    window: int

    @property
    def minimum(self) -> int:
        return self.sides.minimum

    @property
    def multiple(self) -> int:
        return self.sides.multiple
