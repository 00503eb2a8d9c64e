"""foreground-aware: the outlines first, then the picture between them (Xiong et al., CVPR 2019).

The paper's: contours are found in the known part, completed by one module, and the picture is filled by
another that is told the completed contours; both modules draw coarsely, then refine; the losses and the order
in which things are learnt are in `models.training.contours`. Its detector is a salient-object segmenter that
nobody else has, and its layers are not known to us.

Ours: the detector is Canny's, which needs no training and sees no hole's border, in a picture blurred by
`sigma` pixels: at 3 it finds half of what it finds at 2, in longer lines (47 pixels against 36), 97 % of them
again after JPEG at quality 40 and 94 % beside a hole. Each of the four networks is `structure`'s gated trunk
on 4x4 blocks, for CPUs; the coarse picture is what is added to a smooth fill, the refined one what is added
to the coarse; there is no contextual attention. A caller's sketch joins the detected contours before they are
completed, and is kept after.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.inpainting.structure import Trunk
from models.layers.canny import canny
from models.layers.smooth import smooth_fill
from models.network import Network, SizeRule
from models.registry import architecture

RARE = -3.0  # the logit that untrained contours start from: few pixels are on one


@architecture(
    "foreground-aware",
    task="inpaint",
    paper="Foreground-aware Image Inpainting (CVPR 2019)",
    sketch=True,
    chooses=True,
)
class ForegroundAware(Network):
    sides = SizeRule(minimum=16, multiple=16)
    window = 512

    def __init__(
        self,
        contours: Sequence[Sequence[int]] = ((16, 32, 48), (24, 40, 56)),
        images: Sequence[Sequence[int]] = ((24, 40, 56), (48, 72, 88)),
        blocks: int = 1,
        sigma: float = 3.0,
    ) -> None:
        """`contours`, `images`: widths of each module's coarse and refining trunk; `sigma`: Canny's."""
        super().__init__()
        self.sigma = sigma
        seen = 3 + 1 + 1  # colours, contours, mask
        self.contour_coarse, self.contour_refined = (Trunk(seen, 1, widths, blocks) for widths in contours)
        self.image_coarse, self.image_refined = (Trunk(seen, 3, widths, blocks) for widths in images)
        bias = self.contour_coarse.leave.bias
        assert bias is not None
        nn.init.constant_(bias, RARE)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        return self.stages(image, mask, sketch)[-1]

    def stages(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> list[Tensor]:
        """The coarse and the refined picture."""
        given = self.given(image, mask, sketch)
        _, refined = self.contours(image, mask, given)
        return self.images(image, mask, joined(refined, given, mask))

    def given(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        """Contours before they are completed: those of the known part, and the sketch inside the hole."""
        found = self.found(image, mask)
        return found if sketch is None else found + sketch * mask

    def found(self, image: Tensor, mask: Tensor) -> Tensor:
        return canny(image.float().mean(1, keepdim=True), mask, self.sigma).to(image.dtype)

    def contours(self, image: Tensor, mask: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the coarse and the refined contours."""
        known = (2 * image - 1) * (1 - mask)
        coarse = self.contour_coarse.planes(torch.cat([known, given, mask], 1))
        drawn = joined(coarse, given, mask)
        return coarse, coarse + self.contour_refined.planes(torch.cat([known, drawn, mask], 1))

    def images(self, image: Tensor, mask: Tensor, contour: Tensor) -> list[Tensor]:
        known = (2 * image - 1) * (1 - mask)
        smooth = 2 * smooth_fill(image, mask) - 1
        coarse = smooth + self.image_coarse.planes(torch.cat([smooth, contour, mask], 1))
        drawn = known + coarse * mask
        refined = coarse + self.image_refined.planes(torch.cat([drawn, contour, mask], 1))
        return [(coarse + 1) / 2, (refined + 1) / 2]


def joined(logits: Tensor, given: Tensor, mask: Tensor) -> Tensor:
    """Completed contours: predicted inside the hole, but nowhere fainter than what was given."""
    return torch.maximum(torch.sigmoid(logits) * mask, given)
