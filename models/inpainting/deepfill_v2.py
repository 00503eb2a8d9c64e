"""deepfill-v2: free-form inpainting with gated convolution (Yu et al., ICCV 2019).

The numbers are those of the authors' TensorFlow graph, which the paper leaves open in places: padding,
nearest downsampling with aligned corners, the fusion of scores, and a second stage that sees neither mask nor
sketch but only the pasted picture. Ours: `width` (24 in the paper), and a sketch that may be left out of a
network that takes one.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from models.inpainting.deepfill import RefinementStage, coarse_stage
from models.layers.contextual_attention import ContextualAttention
from models.layers.gated import GatedConv, PaddedConv
from models.network import Network, SizeRule
from models.registry import architecture


@architecture(
    "deepfill-v2",
    task="inpaint",
    paper="Free-Form Image Inpainting with Gated Convolution (ICCV 2019)",
    sketch=True,
)
class DeepFillV2(Network):
    sides = SizeRule(minimum=8, multiple=8)
    window = 512

    def __init__(self, width: int = 24, sketch: bool = True) -> None:
        super().__init__()
        self.sketch = sketch
        head = partial(PaddedConv, activation=torch.tanh)
        self.coarse = coarse_stage(GatedConv, head, 6 if sketch else 5, width)
        self.refined = RefinementStage(GatedConv, head, 3, width, ContextualAttention())

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        return self.stages(image, mask, sketch)[-1]

    def stages(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> list[Tensor]:
        """The coarse and the refined picture, each on [0, 1]."""
        known = (2 * image - 1) * (1 - mask)
        planes = [known, torch.ones_like(mask), mask]
        if self.sketch:
            planes.insert(1, torch.zeros_like(mask) if sketch is None else sketch * mask)
        coarse = self.coarse(torch.cat(planes, 1))
        refined = self.refined(known + coarse * mask, mask)
        return [(coarse + 1) / 2, (refined + 1) / 2]
