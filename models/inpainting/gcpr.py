"""gcpr: image inpainting with learnable feature imputation (Hukkelås et al., GCPR 2020).

A U-shaped network down to 4x4 that carries a certainty beside its features and imputes, before every
convolution, what is uncertain from what is near. It has blocks for one size alone. Open in the paper and
taken from its code: the latent is zero when it answers, so that it draws nothing, and the pictures of all
sizes are averaged. Its scaling of weights is folded into them by the importer. Ours: `side`, `width` (at the
largest size), and certainties that stay in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network import Network, SizeRule
from models.registry import architecture

LATENT = 32  # channels
DEEPEST = 4
WIDEST_AT = 32  # the size from which on widths do not grow


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def normalised(x: Tensor) -> Tensor:
    """Leaky ReLU, and unit mean square over the channels."""
    wide = F.leaky_relu(x, 0.2).float()
    return (wide * (wide.square().mean(1, keepdim=True) + 1e-7).rsqrt()).to(x.dtype)


class Imputing(nn.Module):
    """A convolution of features whose uncertain part is imputed first, and the new certainty.

    The network's last (`updates` False) has no use for one.
    """

    def __init__(self, entering: int, leaving: int, reach: int, updates: bool = True) -> None:
        super().__init__()
        self.reach = reach
        self.impute = nn.Conv2d(entering, entering, 2 * reach + 1, padding=reach, groups=entering)
        self.conv = nn.Conv2d(entering, leaving, 3, padding=1)
        self.update = nn.Conv2d(1, 1, 3, padding=1, bias=False) if updates else None

    def forward(self, x: Tensor, certainty: Tensor) -> tuple[Tensor, Tensor]:
        certain = certainty.to(x.dtype)
        around = F.avg_pool2d(certain, 2 * self.reach + 1, 1, self.reach)
        imputed = self.impute(x * certain) / (around + 0.01)
        answer = normalised(self.conv(x * certain + imputed * (1 - certain)))
        if self.update is None:
            return answer, certainty
        with torch.autocast(x.device.type, enabled=False):
            raised = F.conv2d(certainty, self.update.weight.to(certainty.dtype), padding=1)
        return answer, (2 * raised.sigmoid() - 1 + 1e-6).clamp(0, 1)


class Block(nn.ModuleList):
    def __init__(self, size: int, entering: int, leaving: int, updates: bool = True) -> None:
        reach = 1 if size <= 8 else 2
        super().__init__([Imputing(entering, entering, reach), Imputing(entering, leaving, reach, updates)])

    def forward(self, x: Tensor, certainty: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self:
            x, certainty = layer(x, certainty)
        return x, certainty


class Skip(nn.Module):
    """A mean of two features by their certainties, each with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.beta0 = nn.Parameter(torch.ones(()))
        self.beta1 = nn.Parameter(torch.ones(()))

    def forward(
        self, skip: Tensor, skip_certainty: Tensor, x: Tensor, certainty: Tensor
    ) -> tuple[Tensor, Tensor]:
        first, second = skip_certainty * F.relu(self.beta0), certainty * F.relu(self.beta1)
        share = first / (first + second + 1e-8)
        mixed = skip_certainty * share + certainty * (1 - share)
        share = share.to(x.dtype)
        return skip * share + x * (1 - share), mixed


@architecture(
    "gcpr",
    task="inpaint",
    paper="Image Inpainting with Learnable Feature Imputation (GCPR 2020)",
)
class Gcpr(Network):
    """Blocks are named by their size."""

    sides = SizeRule(minimum=256, multiple=256, maximum=256)
    window = 256
    latent: Tensor

    def __init__(self, side: int = 256, width: int = 32) -> None:
        super().__init__()
        self.sides = SizeRule(side, side, side)
        self.window = side

        def wide(size: int) -> int:
            return width * side // max(size, min(side, WIDEST_AT))

        self.down = [side >> level for level in range((side // DEEPEST).bit_length())]
        latent = torch.zeros(1, LATENT, DEEPEST, DEEPEST)
        self.register_buffer("latent", latent, persistent=False)
        self.enter = nn.Conv2d(3, wide(side), 1)
        self.encoder = nn.ModuleDict()
        self.decoder = nn.ModuleDict()
        self.skips = nn.ModuleDict()
        self.pictures = nn.ModuleDict()
        for size in self.down:
            name, below = str(size), wide(size // 2)
            self.encoder[name] = Block(size, wide(size), below)
            entering = below + LATENT * (size == DEEPEST)
            self.decoder[name] = Block(size, entering, wide(size), updates=size != side)
            self.pictures[name] = nn.Conv2d(wide(size), 3, 1)
            if size != DEEPEST:
                self.skips[name] = Skip()

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        known = 1 - mask
        x, certainty = normalised(self.enter((2 * image - 1) * known)), known.float()
        skips = []
        for size in self.down:
            x, certainty = self.encoder[str(size)](x, certainty)
            if size != DEEPEST:
                skips.append((x, certainty))
                x, certainty = F.avg_pool2d(x, 2), F.avg_pool2d(certainty, 2)
        x = torch.cat([x, self.latent.to(x.dtype).expand(x.shape[0], -1, -1, -1)], 1)
        total = None
        for size in reversed(self.down):
            name = str(size)
            if total is not None:
                total = doubled(total)
                x, certainty = self.skips[name](*skips.pop(), doubled(x), doubled(certainty))
            x, certainty = self.decoder[name](x, certainty)
            picture = self.pictures[name](x)
            total = picture if total is None else total + picture
        assert total is not None
        return (total / len(self.down) + 1) / 2
