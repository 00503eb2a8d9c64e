"""Networks that know one factor: their answer is kept as features; rendering resamples it to any other."""

from __future__ import annotations

from fractions import Fraction

from torch import Tensor

from models.layers import bicubic
from models.layers.placement import Axis
from models.upscaling.upscaler import DOUBLE, Upscaler


class FixedFactor(Upscaler):
    """`features` is the picture enlarged by `factor`; at a factor of 1 rendering gives it back restored."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.density = factor
        self.one_step = max(int(DOUBLE), factor)

    def decode(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        top, left = origin
        place = (top * self.density, left * self.density)
        return bicubic.resize(features, self.remaining(rows), self.remaining(columns), place)

    def remaining(self, axis: Axis) -> Axis:
        """The same pixels, seen from the network's answer."""
        return Axis(axis.scale / Fraction(self.density), axis.start, axis.count)
