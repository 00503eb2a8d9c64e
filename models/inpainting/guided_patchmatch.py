"""guided-patchmatch: a network draws what should be there, the picture's own patches give it texture. Ours.

The idea is patch-swap's (infer, match, translate), with colours in place of features. `structure` infers, at
the size that it was trained for; its drawing is brought to the picture's size and made to meet what surrounds
the hole; PatchMatch finds patches that look like it and copies them; what is smooth in them is moved to the
drawing's colours. A small network that has seen many drawings and copies beside the truth translates: it
decides how much of either to believe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.inpainting.finish import Finish
from models.inpainting.patchmatch import GUIDED_LEVELS, PatchMatch
from models.inpainting.structure import Structure
from models.layers.smooth import blur, smooth_fill
from models.registry import SizeRule, architecture

# Detail finer than so many pixels of the drawing comes from patches: of one that had to be enlarged, more.
FINE, COARSE = 3.0, 8.0
BELIEVED = 0.9  # of what copies add to the drawing: the last step has learnt from somewhat softer copies
LARGEST_DRAWING = 512  # pixels a side
MIRRORS = ((), (3,), (2,), (2, 3))  # axes along which the picture is turned for each of the drawings


@architecture(
    "guided-patchmatch",
    task="inpaint",
    paper="none; PatchMatch (SIGGRAPH 2009), patch-swap (ECCV 2018)",
    size=SizeRule(minimum=16, multiple=16),
    window=1024,
    sketch=True,
    exportable=False,
)
class GuidedPatchMatch(Structure):
    window = 1024  # patches are copied at full size; only the drawing is made smaller

    def __init__(
        self, widths: Sequence[int] = (48, 96, 128), blocks: int = 2, bottom: int = 1, finish: int = 32
    ) -> None:
        """`finish`: the width of the last step's network, which alone learns here; `structure` has learnt."""
        super().__init__(widths, blocks, bottom)
        self.requires_grad_(False)
        self.finish = Finish(finish)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        factor = max(1.0, max(image.shape[-2:]) / LARGEST_DRAWING)
        guide, copied = self.proposed(image.float(), mask, sketch, factor)
        return self.finish(guide, torch.lerp(guide, copied, BELIEVED), mask).to(image.dtype)

    def proposed(
        self, image: Tensor, mask: Tensor, sketch: Tensor | None, factor: float
    ) -> tuple[Tensor, Tensor]:
        """The picture with what was drawn in its hole, and with patches in the drawing's colours there."""
        drawing = self.drawn(image, mask, sketch, factor).float().clamp(0, 1)
        guide = torch.where(mask > 0.5, meeting(drawing, image, mask), image)
        return guide, textured(guide, image, mask, factor)

    def drawn(self, image: Tensor, mask: Tensor, sketch: Tensor | None, factor: float) -> Tensor:
        """What `structure` makes of the picture, `factor` times smaller."""
        if factor == 1:
            return self.drawn_mirrored(image, mask, sketch)
        height, width = (round(side / factor / self.multiple) for side in image.shape[-2:])
        size = (max(1, height) * self.multiple, max(1, width) * self.multiple)
        known = F.adaptive_avg_pool2d(1 - mask, size)
        # Only known pixels are averaged, and a pixel with anything missing in it is missing.
        small = F.adaptive_avg_pool2d(image * (1 - mask), size) / known.clamp(min=1e-6)
        lines = None if sketch is None else F.adaptive_max_pool2d(sketch, size)
        answer = self.drawn_mirrored(small, (known < 1 - 1e-4).to(image.dtype), lines)
        return F.interpolate(answer, image.shape[-2:], mode="bicubic", align_corners=False)

    def drawn_mirrored(self, image: Tensor, mask: Tensor, sketch: Tensor | None) -> Tensor:
        """The mean of what `structure` draws in the picture and in its mirror images: nearer to the truth."""
        lines = None if sketch is None else mirrored(sketch)
        drawings = super().forward(mirrored(image), mirrored(mask), lines).chunk(len(MIRRORS))
        turned = [drawing.flip(axes) for drawing, axes in zip(drawings, MIRRORS, strict=True)]
        return torch.stack(turned).mean(0)


def mirrored(x: Tensor) -> Tensor:
    return torch.cat([x.flip(axes) for axes in MIRRORS])


def meeting(drawing: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """`drawing` moved, smoothly, by what it lacks around each hole, so that no rim shows."""
    return drawing + smooth_fill(image - drawing, mask, unknown=0.0)


@torch.no_grad()
def textured(guide: Tensor, image: Tensor, mask: Tensor, factor: float = 1.0) -> Tensor:
    """The hole of `image` filled with its own patches, in the colours of `guide`.

    The guide is as sharp as a picture `factor` times smaller.
    """
    holes = mask[:, 0] > 0.5
    search = PatchMatch()
    levels = GUIDED_LEVELS + math.ceil(math.log2(factor))
    sigma = FINE if factor == 1 else COARSE * factor
    samples = zip(image, holes, guide, strict=True)
    copied = torch.stack([search.complete(*each, levels) for each in samples])
    return copied + blur(mask * (guide - copied), sigma) * mask
