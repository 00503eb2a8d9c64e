"""deepfill-v1: generative inpainting with contextual attention (Yu et al., CVPR 2018).

Two meanings exist for weights of this network. `official` is the authors' TensorFlow graph: uneven padding at
stride 2, nearest downsampling with aligned corners. The other is that of the PyTorch port, which trained its
own weights with even padding and plain downsampling.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from models.inpainting.deepfill import RefinementStage, coarse_stage
from models.layers.contextual_attention import ContextualAttention
from models.layers.gated import PaddedConv
from models.network import Network, SizeRule
from models.registry import architecture


def clip(x: Tensor) -> Tensor:
    return x.clamp(-1, 1)


@architecture(
    "deepfill-v1",
    task="inpaint",
    paper="Generative Image Inpainting with Contextual Attention (CVPR 2018)",
)
class DeepFillV1(Network):
    sides = SizeRule(minimum=8, multiple=8)
    window = 512

    def __init__(self, width: int = 32, official: bool = True) -> None:
        super().__init__()
        layer = partial(PaddedConv, padding="same" if official else "symmetric")
        head = partial(PaddedConv, activation=clip)
        self.coarse = coarse_stage(layer, head, 5, width)
        self.refined = RefinementStage(layer, head, 5, width, ContextualAttention(official=official))

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        return self.stages(image, mask)[-1]

    def stages(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> list[Tensor]:
        """The coarse and the refined picture, each on [0, 1]."""
        known = (2 * image - 1) * (1 - mask)
        ones = torch.ones_like(mask)
        coarse = self.coarse(torch.cat([known, ones, mask], 1))
        pasted = known + coarse * mask
        refined = self.refined(torch.cat([pasted, ones, mask], 1), mask)
        return [(coarse + 1) / 2, (refined + 1) / 2]
