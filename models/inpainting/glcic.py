"""glcic: globally and locally consistent image completion (Iizuka et al., SIGGRAPH 2017).

Public weights come in three layouts. `official`: known pixels less the mean colour, zero in the hole; the
mean is not added back. `relu-first`: the hole has the mean colour, and normalisation follows the activation.
`openmmlab`: no biases inside, a clip for the sigmoid; its mean is half grey, and its importer turns its
colours round. The mean stands in no state, so it is an argument; defaults are those of each one's best known
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network import Network, SizeRule
from models.registry import architecture

Layout = Literal["official", "relu-first", "openmmlab"]
MEANS: dict[Layout, tuple[float, float, float]] = {
    "official": (0.45603489875793, 0.44721376895905, 0.41546452045441),
    "relu-first": (0.5062325495504219, 0.4255871700324652, 0.38299278586700136),
    "openmmlab": (0.5, 0.5, 0.5),
}


class Block(nn.Module):
    """A convolution, its normalisation and ReLU, or the last two the other way round."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, relu_first: bool) -> None:
        super().__init__()
        self.conv, self.relu_first = conv, relu_first
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(F.relu(x)) if self.relu_first else F.relu(self.norm(x))


def convolutions(width: int, bias: bool) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    def conv(entering: int, leaving: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
        reach = dilation * (kernel // 2)
        return nn.Conv2d(entering, leaving, kernel, stride, reach, dilation, bias=bias)

    def up(entering: int, leaving: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(entering, leaving, 4, 2, 1, bias=bias)

    return [
        conv(4, width, kernel=5),
        conv(width, 2 * width, stride=2),
        conv(2 * width, 2 * width),
        conv(2 * width, 4 * width, stride=2),
        *(conv(4 * width, 4 * width, dilation=step) for step in (1, 1, 2, 4, 8, 16, 1, 1)),
        up(4 * width, 2 * width),
        conv(2 * width, 2 * width),
        up(2 * width, width),
        conv(width, width // 2),
    ]


@architecture(
    "glcic",
    task="inpaint",
    paper="Globally and Locally Consistent Image Completion (SIGGRAPH 2017)",
)
class Glcic(Network):
    sides = SizeRule(minimum=4, multiple=4)
    window = 256
    mean: Tensor

    def __init__(
        self, width: int = 64, layout: Layout = "official", mean: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.layout = layout
        colour = torch.tensor(tuple(mean or MEANS[layout])).view(3, 1, 1)
        self.register_buffer("mean", colour, persistent=False)
        relu_first = layout == "relu-first"
        convs = convolutions(width, bias=layout != "openmmlab")
        self.blocks = nn.Sequential(*(Block(conv, relu_first) for conv in convs))
        self.leave = nn.Conv2d(width // 2, 3, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        answer = self.leave(self.blocks(torch.cat([self.seen(image, mask), mask], 1)))
        return answer.clamp(0, 1) if self.layout == "openmmlab" else torch.sigmoid(answer)

    def seen(self, image: Tensor, mask: Tensor) -> Tensor:
        mean = self.mean.to(image.dtype)
        if self.layout == "relu-first":
            return image * (1 - mask) + mean * mask
        return (image - mean) * (1 - mask)
