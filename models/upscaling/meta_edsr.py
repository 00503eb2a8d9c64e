"""meta-edsr: the Meta-Upscale decoder (Hu et al., CVPR 2019) on EDSR-baseline (Lim et al., CVPRW 2017).

As the public code of LIIF (Chen et al., CVPR 2021) trains it for comparison: the picture enters as 2 x - 1
and leaves likewise, no mean is taken off, and the decoder is told the factor of the rows even where that of
the columns differs. There the enlarged size decides the factors and not the other way round, so a whole
picture's sides are cut to whole pixels first.
"""

from __future__ import annotations

from fractions import Fraction

from torch import Tensor, nn

from models.layers.meta_upscale import MetaUpscale
from models.layers.placement import Axis, Scales, both
from models.registry import architecture
from models.upscaling.blocks import ResidualBlock
from models.upscaling.upscaler import Upscaler


@architecture(
    "meta-edsr",
    task="upscale",
    paper="Meta-SR: A Magnification-Arbitrary Network for Super-Resolution (CVPR 2019), on EDSR-baseline",
)
class MetaEDSR(Upscaler):
    def __init__(self, channels: int = 64, blocks: int = 16, hidden: int = 256) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, channels, 3, padding=1)
        self.upscale = MetaUpscale(channels, hidden)
        self.receptive_field = min(24, 2 * blocks + 3)  # as of meta-rdn

    def features(self, image: Tensor) -> Tensor:
        head: Tensor = self.head(2 * image - 1)
        return head + self.tail(self.body(head))

    def decode(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        answer: Tensor = self.upscale(features, rows, columns, origin, rows.step / rows.period)
        return (answer.float() + 1) / 2

    def forward(self, image: Tensor, scale: Scales) -> Tensor:
        sides = zip(image.shape[-2:], both(scale), strict=True)
        vertical, horizontal = (Fraction(int(side * float(factor)), side) for side, factor in sides)
        return self.render(self.features(image), (vertical, horizontal))
