"""guided-patchmatch: a network draws what should be there, the picture's own patches give it texture. Ours.

The idea is patch-swap's (infer, match, translate), with colours in place of features. `structure` infers;
PatchMatch finds patches that look like its drawing and copies them; then what is smooth in the answer is
moved to the drawing's colours, fading out at the rim. It takes structure's weights as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.inpainting.patchmatch import PatchMatch
from models.inpainting.structure import Structure
from models.registry import SizeRule, architecture

SIGMA = 4.0  # pixels: detail finer than this comes from patches


@architecture(
    "guided-patchmatch",
    task="inpaint",
    paper="none; PatchMatch (SIGGRAPH 2009), patch-swap (ECCV 2018)",
    size=SizeRule(minimum=16, multiple=16),
    window=512,
    sketch=True,
    trainable=False,
)
class GuidedPatchMatch(Structure):
    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        guide = super().forward(image, mask, sketch)
        return textured(guide.float(), image.float(), mask).to(image.dtype)


@torch.no_grad()
def textured(guide: Tensor, image: Tensor, mask: Tensor, sigma: float = SIGMA) -> Tensor:
    """The hole of `image` filled with its own patches, in the colours of `guide`."""
    holes = mask[:, 0] > 0.5
    search = PatchMatch()
    copied = torch.stack([search.complete(*each) for each in zip(image, holes, guide, strict=True)])
    return copied + blur(mask * (guide - copied), sigma) * mask


def blur(x: Tensor, sigma: float) -> Tensor:
    reach = round(3 * sigma)
    away = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    line = torch.exp(-away.square() / (2 * sigma**2))
    line = line / line.sum()
    channels = x.shape[1]
    down = line.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    across = line.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    x = F.conv2d(x, down, padding=(reach, 0), groups=channels)
    return F.conv2d(x, across, padding=(0, reach), groups=channels)
