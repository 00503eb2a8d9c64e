"""What every upscaler shares: features once, then any scale, any region, from any tile."""

from __future__ import annotations

import math
from abc import abstractmethod
from fractions import Fraction

from torch import Tensor

from models.layers.placement import Axis, Scales, both, enlarged
from models.network import Network, SizeRule

Region = tuple[int, int, int, int]  # top, left, height, width in enlarged pixels of the whole picture

Step = tuple[tuple[Fraction, Fraction], tuple[int, int]]  # factors, and the size that they lead to

# Networks are trained up to here. From x4.5 to x8, doubling first gives 0.05 dB (BSD100) to 0.15 dB (Set5)
# more than one step does.
ONE_STEP = 4
DOUBLE = Fraction(2)


def steps(
    size: tuple[int, int],
    factors: tuple[Fraction, Fraction],
    out: tuple[int, int],
    most: int = ONE_STEP,
) -> list[Step]:
    """What to enlarge a picture of `size` by, one after the other, `most` at once, to get `out`."""
    if max(factors) <= most:
        return [(factors, out)]
    # A side that needs less than doubling is done at once: only whole factors give whole pixels in between.
    first = min(factors[0], DOUBLE), min(factors[1], DOUBLE)
    middle = tuple(
        2 * side if factor > DOUBLE else whole for side, factor, whole in zip(size, factors, out, strict=True)
    )
    rest = factors[0] / first[0], factors[1] / first[1]
    return [(first, (middle[0], middle[1])), *steps((middle[0], middle[1]), rest, out, most)]


class Upscaler(Network):
    sides = SizeRule()
    window = 256
    density = 1  # features along a small pixel's side
    one_step = ONE_STEP
    receptive_field: int  # small pixels beyond a tile's core that its enlargement depends on

    @abstractmethod
    def features(self, image: Tensor) -> Tensor:
        """The part that does not depend on the scale."""

    @abstractmethod
    def decode(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        """The pixels rows x columns; `inverse` is one over the (geometric mean of the) scale."""

    def render(
        self,
        features: Tensor,
        scale: Scales,
        *,
        origin: tuple[int, int] = (0, 0),
        region: Region | None = None,
    ) -> Tensor:
        """The enlarged picture, or its `region`, from features that begin at small pixel `origin`."""
        vertical, horizontal = both(scale)
        if min(vertical, horizontal) < 1:
            raise ValueError(f"an upscaler does not make pictures smaller: the scale is {scale}")
        if region is None:
            height, width = (side // self.density for side in features.shape[-2:])
            region = (0, 0, enlarged(height, vertical), enlarged(width, horizontal))
        top, left, height, width = region
        rows, columns = Axis(vertical, top, height), Axis(horizontal, left, width)
        inverse = 1 / math.sqrt(vertical * horizontal)
        return self.decode(features, rows, columns, origin, inverse)

    def forward(self, image: Tensor, scale: Scales) -> Tensor:
        return self.render(self.features(image), scale)
