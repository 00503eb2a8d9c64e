"""Where each enlarged pixel reads: exact fractions, because floats misplace rows at 1.1, 2.2 or 2.7."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

Scale = float | Fraction
Scales = Scale | tuple[Scale, Scale]


def exact(scale: Scale) -> Fraction:
    """The factor that was written: 2.7 means 27/10, not the nearest binary number."""
    return scale if isinstance(scale, Fraction) else Fraction(repr(float(scale)))


def both(scale: Scales) -> tuple[Fraction, Fraction]:
    """Vertical and horizontal factor."""
    vertical, horizontal = scale if isinstance(scale, tuple) else (scale, scale)
    return exact(vertical), exact(horizontal)


def enlarged(side: int, scale: Scale) -> int:
    return max(1, int(side * exact(scale) + Fraction(1, 2)))


@dataclass(frozen=True)
class Axis:
    """The pixels `start .. start + count` of one enlarged axis.

    Pixel i reads the small pixel floor(i / scale), at an offset in [0, 1) from it. With scale = p/q both
    repeat every p enlarged and q small pixels.
    """

    scale: Fraction
    start: int
    count: int

    @property
    def period(self) -> int:
        return self.scale.numerator

    @property
    def step(self) -> int:
        return self.scale.denominator

    def source(self, pixel: int) -> int:
        return pixel * self.step // self.period

    def offset(self, pixel: int) -> float:
        return pixel * self.step % self.period / self.period

    @property
    def pixels(self) -> range:
        return range(self.start, self.start + self.count)
