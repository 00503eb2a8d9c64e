"""context-encoder: feature learning by inpainting (Pathak et al., CVPR 2016).

Two models. The centre model (`centre`, the published one) answers for the middle half of the picture, so its
holes must lie there; what else is missing has the hole's colour in the answer. The model of random regions
answers for the whole picture. Neither has a mask for an input: a hole is told by its colour, which is the
published weights' own: the mean of ImageNet with red and green exchanged. Convolutions have no bias; those of
the Torch7 files are next to nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.network import Network, SizeRule
from models.registry import architecture

HOLE = (117 / 255, 104 / 255, 123 / 255)


def down(entering: int, leaving: int) -> nn.Conv2d:
    return nn.Conv2d(entering, leaving, 4, 2, 1, bias=False)


def up(entering: int, leaving: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(entering, leaving, 4, 2, 1, bias=False)


def normalised(conv: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(conv.out_channels), activation]


@architecture(
    "context-encoder",
    task="inpaint",
    paper="Context Encoders: Feature Learning by Inpainting (CVPR 2016)",
)
class ContextEncoder(Network):
    """Layers lie where the PyTorch port has them."""

    sides = SizeRule(minimum=128, multiple=32)
    window = 128
    hole: Tensor

    def __init__(self, width: int = 64, bottleneck: int = 4000, centre: bool = True) -> None:
        super().__init__()
        self.centre = centre
        self.register_buffer("hole", torch.tensor(HOLE).view(3, 1, 1), persistent=False)
        encoder = [(width, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 8 * width)]
        decoder = [(8 * width, 4 * width), (4 * width, 2 * width), (2 * width, width)]
        if not centre:
            decoder.append((width, width))
        deepest = nn.Conv2d(8 * width, bottleneck, 4, bias=False)
        raised = nn.ConvTranspose2d(bottleneck, 8 * width, 4, bias=False)
        self.main = nn.Sequential(
            down(3, width),
            nn.LeakyReLU(0.2),
            *(layer for step in encoder for layer in normalised(down(*step), nn.LeakyReLU(0.2))),
            *normalised(deepest, nn.LeakyReLU(0.2)),
            *normalised(raised, nn.ReLU()),
            *(layer for step in decoder for layer in normalised(up(*step), nn.ReLU())),
            up(width, 3),
        )

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        seen = image * (1 - mask) + self.hole.to(image.dtype) * mask
        answer = (torch.tanh(self.main(2 * seen - 1)) + 1) / 2
        return in_the_middle(seen, answer) if self.centre else answer


def in_the_middle(around: Tensor, middle: Tensor) -> Tensor:
    """`around` with its middle half replaced."""
    top, left = around.shape[-2] // 4, around.shape[-1] // 4
    beside = around[..., top:-top, :]
    row = torch.cat([beside[..., :left], middle.to(around.dtype), beside[..., -left:]], -1)
    return torch.cat([around[..., :top, :], row, around[..., -top:, :]], -2)
