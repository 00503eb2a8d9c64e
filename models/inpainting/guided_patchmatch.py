"""guided-patchmatch: a network draws what should be there, the picture's own patches give it texture. Ours.

The idea is patch-swap's (infer, match, translate), with colours in place of features. `structure` infers, at
the size that it was trained for; its drawing is brought to the picture's size and made to meet what surrounds
the hole; contours that cross the hole are continued in it, and what repeats itself goes on; PatchMatch finds
patches that look like it and copies them; what is smooth in them is moved to the drawing's colours. Deep
inside a large hole a drawing is no more than a guess, and there copies stay as they are: what belongs
together in a picture looks better than what lies nearest to the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.inpainting.contours import continued
from models.inpainting.offsets import repeated
from models.inpainting.patchmatch import GUIDED_LEVELS, PatchMatch
from models.inpainting.structure import Structure
from models.layers.smooth import blur, smooth_fill
from models.registry import architecture

# Detail finer than so many pixels of the drawing comes from patches: of one that had to be enlarged, more.
FINE, COARSE = 3.0, 8.0
REACH = 8.0  # pixels of the drawing: how far from the rim it is still worth more than copies are
LARGEST_DRAWING = 512  # pixels a side
MIRRORS = ((), (3,), (2,), (2, 3))  # axes along which the picture is turned for each of the drawings
# Of a picture without its hole, and the hole: what is in it, and how far that is to be believed.
Evidence = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@architecture(
    "guided-patchmatch",
    task="inpaint",
    paper="none; PatchMatch (SIGGRAPH 2009), patch-swap (ECCV 2018)",
    sketch=True,
    exportable=False,
    chooses=True,
)
class GuidedPatchMatch(Structure):
    window = 1024  # patches are copied at full size; only the drawing is made smaller

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        factor = max(1.0, max(image.shape[-2:]) / LARGEST_DRAWING)
        picture = image.float()
        drawing = self.drawn(picture, mask, sketch, factor).float().clamp(0, 1)
        guide = torch.where(mask > 0.5, meeting(drawing, picture, mask), picture)
        guide = informed(guide, picture, mask, sketch)
        return textured(guide, picture, mask, deep(mask, sketch, factor), factor).to(image.dtype)

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


def added(evidence: Evidence, guide: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """`guide` with what the evidence brings into each sample's hole, as far as that is to be believed."""
    answers = []
    for drawn, picture, hole in zip(guide[:, None], image[:, None], mask[:, None], strict=True):
        found, belief = evidence(picture * (1 - hole), hole)
        answers.append(torch.lerp(drawn, found, belief * hole))
    return torch.cat(answers)


def informed(guide: Tensor, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
    """`guide` with what the picture itself says of its hole, unless a sketch says what is in it."""
    evident = added(repeated, added(continued, guide, image, mask), image, mask)
    if sketch is None:
        return evident
    return torch.where((sketch * mask).amax((1, 2, 3), True) > 0, guide, evident)


def deep(mask: Tensor, sketch: Tensor | None = None, factor: float = 1.0) -> Tensor:
    """How far a drawing is a mere guess: 0 near a hole's rim, and in all of a narrow hole; 1 in the middle of
    a large one. A sketch's lines count as rims.
    """
    unknown = mask.float()
    if sketch is not None:
        unknown = unknown * (blur(sketch.float(), REACH * factor / 4) < 0.01)
    # So much of what lies around is missing one REACH from a straight rim, and two REACH from it.
    return ((blur(unknown, REACH * factor) - 0.84) / (0.98 - 0.84)).clamp(0, 1) * mask


@torch.no_grad()
def textured(
    guide: Tensor, image: Tensor, mask: Tensor, guessed: Tensor | float = 0.0, factor: float = 1.0
) -> Tensor:
    """The hole of `image` filled with its own patches, in the colours of `guide` where it is not `guessed`.

    The guide is as sharp as a picture `factor` times smaller.
    """
    holes = mask[:, 0] > 0.5
    search = PatchMatch()
    levels = GUIDED_LEVELS + math.ceil(math.log2(factor))
    sigma = FINE if factor == 1 else COARSE * factor
    samples = zip(image, holes, guide, strict=True)
    copied = torch.stack([search.complete(*each, levels) for each in samples])
    return copied + blur(mask * (guide - copied), sigma) * mask * (1 - guessed)
