"""Critics: they see a picture, its mask and its sketch, and score every place."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchCritic(nn.Module):
    """SN-PatchGAN (DeepFill v2): strided convolutions of kernel 5, spectral norm, every value a score."""

    def __init__(self, entering: int = 5, width: int = 64, layers: int = 6) -> None:
        super().__init__()
        widths = [entering, *(width * min(4, 2**layer) for layer in range(layers))]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 5, 2, 2)) for before, after in pairwise(widths)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The features of every layer; the last ones are the scores."""
        answers = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            answers.append(x)
        return answers
