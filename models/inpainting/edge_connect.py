"""edge-connect: generative image inpainting with adversarial edge learning (Nazeri et al., 2019).

One generator continues the edges of a grey picture into the hole, another fills the hole along them. Open in
the paper and taken from its code: the hole is white, the predicted edges go on as they are, neither rounded
nor joined with the known ones, and residual sums have no activation. Ours: spectral normalisation is folded
into the weights; edges are Canny's with directions to the nearest of eight; a caller's sketch joins the
predicted edges inside the hole, the stronger of the two at every point.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.canny import canny
from models.layers.constants import constant
from models.network import Network, SizeRule
from models.registry import architecture

LUMA = (0.2125, 0.7154, 0.0721)


class Residual(nn.Module):
    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(2),
            nn.Conv2d(channels, channels, 3, dilation=2, bias=bias),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def normalised(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [conv, nn.InstanceNorm2d(conv.out_channels), nn.ReLU()]


class Generator(nn.Module):
    """Both generators, up to the last activation; layers lie where the public code has them."""

    def __init__(self, entering: int, leaving: int, width: int, blocks: int, residual_bias: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3),
            *normalised(nn.Conv2d(entering, width, 7)),
            *normalised(nn.Conv2d(width, 2 * width, 4, 2, 1)),
            *normalised(nn.Conv2d(2 * width, 4 * width, 4, 2, 1)),
        )
        self.middle = nn.Sequential(*(Residual(4 * width, residual_bias) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            *normalised(nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1)),
            *normalised(nn.ConvTranspose2d(2 * width, width, 4, 2, 1)),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, leaving, 7),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.middle(self.encoder(x)))


@architecture(
    "edge-connect",
    task="inpaint",
    paper="EdgeConnect: Generative Image Inpainting with Adversarial Edge Learning (ICCV workshops 2019)",
    sketch=True,
)
class EdgeConnect(Network):
    # The dilated residual layers reflect 2 on a map of a quarter of the side.
    sides = SizeRule(minimum=12, multiple=4)
    window = 256

    def __init__(self, width: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.edge = Generator(3, 1, width, blocks, residual_bias=False)
        self.inpaint = Generator(4, 3, width, blocks, residual_bias=True)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        picture = image.float()
        gray = (picture * constant(LUMA, picture).view(3, 1, 1)).sum(1, keepdim=True)
        edges = self.predict_edges(gray.to(image.dtype), canny(gray, mask).to(image.dtype), mask)
        if sketch is not None:
            edges = torch.maximum(edges, sketch * mask)
        return self.fill(image, mask, edges)

    def predict_edges(self, gray: Tensor, edges: Tensor, mask: Tensor) -> Tensor:
        """The edges of the whole picture in 0 .. 1, from its grey values and the edges of its known part."""
        known = 1 - mask
        return torch.sigmoid(self.edge(torch.cat([gray * known + mask, edges * known, mask], 1)))

    def fill(self, image: Tensor, mask: Tensor, edges: Tensor) -> Tensor:
        white = image * (1 - mask) + mask
        return (torch.tanh(self.inpaint(torch.cat([white, edges], 1))) + 1) / 2
