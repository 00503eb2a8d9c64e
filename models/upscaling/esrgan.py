"""esrgan: residual-in-residual dense blocks (Wang et al., ECCVW 2018), as Real-ESRGAN has them (ICCVW 2021).

Ours: the picture enlarged by the network's one factor is resampled to any other; a picture whose sides the
first layer's unshuffling does not divide is padded by its last pixels; the last layer works in float32 even
where the others are halved, because half precision has fewer levels than a picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.registry import architecture
from models.upscaling.fixed import FixedFactor

DENSE_LAYERS = 5
BLOCK_LAYERS = 3
SHARE = 0.2  # of what a block finds that is added to what entered


def activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


class DenseBlock(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        leaving = [growth] * (DENSE_LAYERS - 1) + [channels]
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + growth * number, width, 3, padding=1) for number, width in enumerate(leaving)
        )

    def forward(self, x: Tensor) -> Tensor:
        *layers, last = self.layers
        seen = x
        for layer in layers:
            seen = torch.cat([seen, activated(layer(seen))], 1)
        return x + SHARE * last(seen)


class Block(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(BLOCK_LAYERS)))

    def forward(self, x: Tensor) -> Tensor:
        return x + SHARE * self.dense(x)


@architecture(
    "esrgan",
    task="upscale",
    paper="Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (ICCVW 2021)",
)
class Esrgan(FixedFactor):
    """The defaults are Real-ESRGAN x4plus; x2plus has unshuffle 2, anime 6B has 6 blocks."""

    def __init__(
        self, channels: int = 64, blocks: int = 23, growth: int = 32, doublings: int = 2, unshuffle: int = 1
    ) -> None:
        super().__init__(2**doublings // unshuffle)
        self.unshuffle = unshuffle
        # In theory hundreds. Beyond 24 of them what two tiles invent differs by 3 levels on average, and the
        # seam is not seen; beyond 32 by 2, for a quarter more time.
        self.receptive_field = 24
        self.enter = nn.Conv2d(3 * unshuffle**2, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(channels, growth) for _ in range(blocks)))
        self.exit = nn.Conv2d(channels, channels, 3, padding=1)
        self.up = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(doublings))
        self.fine = nn.Conv2d(channels, channels, 3, padding=1)
        self.leave = nn.Conv2d(channels, 3, 3, padding=1)

    def features(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        x = self.enter(self.unshuffled(image))
        x = x + self.exit(self.blocks(x))
        for layer in self.up:
            x = activated(layer(F.interpolate(x, scale_factor=2.0)))
        x = activated(self.fine(x))
        with torch.autocast(image.device.type, enabled=False):
            answer: Tensor = self.leave(x.to(self.leave.weight.dtype))
        return answer[..., : height * self.density, : width * self.density] if self.unshuffle > 1 else answer

    def unshuffled(self, image: Tensor) -> Tensor:
        if self.unshuffle == 1:
            return image
        down, across = (-side % self.unshuffle for side in image.shape[-2:])
        return F.pixel_unshuffle(F.pad(image, (0, across, 0, down), mode="replicate"), self.unshuffle)
