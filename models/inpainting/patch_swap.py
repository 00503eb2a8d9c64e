"""patch-swap: multi-scale feature image translation, "infer, match, translate" (Song et al., ECCV 2018).

The paper's: Image2Feature guesses what the hole holds; features of that picture; patch-swap moves the known
features most like the guess into the hole; Feature2Image makes a picture of them. It learns, by itself, on
swapped features of the true picture, so that it sees the seams of a swap and not the guess's mistakes: a
network in training mode therefore looks into the hole. Larger pictures start from the answer at half size.

Ours, for the paper wants 45, 0.6 and 67 million parameters: Image2Feature is `structure`; the features are
the picture's 4x4 blocks and `width` learned channels beside them, which say what is alike, so that a swap
moves pixels and Feature2Image, a gated U-Net of `depth` halvings that is told which features were swapped,
only has to mend them. With `vgg` and `depth=0` the features are VGG19's relu3_1 and the public decoder makes
the picture: see `with_vgg`. The guess is softer than the picture, so patches are compared in pictures that
are both blurred by `sigma` pixels (0 compares as the paper does) and copied as they are; and copies bring
detail, not tone: what is smoother than `tone` pixels stays as it was guessed (0 leaves the copies' tone).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from models.inpainting.structure import Doubling, Residual, Structure, halving
from models.layers.patch_swap import patch_swap
from models.layers.smooth import blur
from models.network import Network, SizeRule
from models.registry import architecture

STRIDE = 4  # of the features
COLOURS = 3 * STRIDE**2  # channels of a block


class Blocks(nn.Module):
    """A feature space that loses nothing: blocks of pixels, and what is learned of their surroundings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = COLOURS + width
        self.look = nn.Sequential(nn.Conv2d(COLOURS, width, 3, padding=1), Residual(width))
        self.leave = nn.Conv2d(self.channels, COLOURS, 3, padding=1)

    def looks(self, picture: Tensor) -> Tensor:
        return self.look(blocks(picture))

    def forward(self, picture: Tensor) -> Tensor:
        own = blocks(picture)
        return torch.cat([own, self.look(own)], 1)

    def picture(self, features: Tensor) -> Tensor:
        own = features[:, :COLOURS] + self.leave(F.silu(features))
        return (F.pixel_shuffle(own, STRIDE) + 1) / 2


def blocks(picture: Tensor) -> Tensor:
    return F.pixel_unshuffle(2 * picture - 1, STRIDE)


class Vgg(nn.Module):
    """VGG19 to relu3_1 and its mirrored decoder; layers are numbered as in the public files."""

    channels = 256

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 3, 1),
            *conv(3, 64),
            *conv(64, 64),
            nn.MaxPool2d(2),
            *conv(64, 128),
            *conv(128, 128),
            nn.MaxPool2d(2),
            *conv(128, 256),
        )
        self.decoder = nn.Sequential(
            *conv(256, 128),
            nn.Upsample(scale_factor=2.0),
            *conv(128, 128),
            *conv(128, 64),
            nn.Upsample(scale_factor=2.0),
            *conv(64, 64),
            nn.ReflectionPad2d(1),
            nn.Conv2d(64, 3, 3),
        )

    def looks(self, picture: Tensor) -> Tensor:
        return self.encoder(picture)

    def forward(self, picture: Tensor) -> Tensor:
        return self.encoder(picture)

    def picture(self, features: Tensor) -> Tensor:
        return self.decoder(features)


def conv(entering: int, leaving: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(1), nn.Conv2d(entering, leaving, 3), nn.ReLU()]


class Mending(nn.Module):
    """A U-Net that adds to swapped features what makes them one picture; nothing to those of depth 0."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels + 1, channels, 1) if depth else None
        self.down = nn.ModuleList(halving(channels, channels) for _ in range(depth))
        self.middle = nn.ModuleList(Residual(channels) for _ in range(depth))
        self.up = nn.ModuleList(Doubling(channels, channels) for _ in range(depth))
        self.leave = nn.ModuleList(Residual(channels) for _ in range(depth))

    def forward(self, features: Tensor, swapped: Tensor) -> Tensor:
        if self.enter is None:
            return features
        x, skips = self.enter(torch.cat([features, swapped], 1)), []
        for down, middle in zip(self.down, self.middle, strict=True):
            skips.append(x)
            x = middle(down(x))
        for up, leave in zip(self.up, self.leave, strict=True):
            x = leave(skips.pop() + up(x))
        return features + x


@architecture(
    "patch-swap",
    task="inpaint",
    paper="Contextual-based Image Inpainting: Infer, Match, and Translate (ECCV 2018)",
    sketch=True,
    chooses=True,
)
class PatchSwap(Network):
    sides = SizeRule(minimum=32, multiple=32)
    window = 512

    def __init__(
        self,
        width: int = 24,
        depth: int = 2,
        widths: Sequence[int] = (32, 64, 96),
        blocks: int = 2,
        scales: int = 2,
        sigma: float = 2.0,
        tone: float = 4.0,
        vgg: bool = False,
    ) -> None:
        super().__init__()
        if depth > 2:
            raise ValueError("depth: at most 2, for the features of the least size are 4 on a side")
        side = 16 * 2 ** (scales - 1)
        self.sides = SizeRule(minimum=side, multiple=side)
        self.window = 256 * 2 ** (scales - 1)
        self.scales, self.sigma, self.tone = scales, sigma, tone
        self.image2feature = Structure(widths, blocks)
        self.space = Vgg() if vgg else Blocks(width)
        self.mending = Mending(self.space.channels, depth)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        return self.stages(image, mask, sketch)[-1]

    def stages(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> list[Tensor]:
        """Image2Feature's picture and then each scale's, all brought to full size."""
        if self.training:
            return [self.image2feature(image, mask, sketch), self.translated(image, mask)]
        inputs = [(image * (1 - mask), mask, sketch)]
        for _ in range(self.scales - 1):
            inputs.append(halved(*inputs[-1]))
        answers = [self.image2feature(*inputs[-1])]
        for known, hole, _ in reversed(inputs):
            guess = resized(answers[-1], hole)
            answers.append(self.translated(known + guess * hole, hole))
        return [resized(answer, mask) for answer in answers]

    def translated(self, picture: Tensor, mask: Tensor) -> Tensor:
        """What patch-swap and Feature2Image make of a picture without holes."""
        hole = F.max_pool2d(mask, STRIDE)
        with torch.no_grad():
            looks = self.space.looks(softer(picture, self.sigma))
        swapped = patch_swap(self.space(picture), hole, looks)
        answer = self.space.picture(self.mending(swapped, hole))
        return answer + softer(picture - answer, self.tone) if self.tone else answer


def softer(picture: Tensor, sigma: float) -> Tensor:
    return blur(picture, sigma) if sigma else picture


def halved(known: Tensor, mask: Tensor, sketch: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Half the size, for the scale below; what is missing in part is missing."""
    hole = F.max_pool2d(mask, 2)
    drawn = None if sketch is None else F.max_pool2d(sketch, 2)
    return F.avg_pool2d(known, 2) * (1 - hole), hole, drawn


def resized(picture: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(picture, like.shape[-2:], mode="bilinear", align_corners=False)


def with_vgg(net: PatchSwap, features: Path, decoder: Path) -> PatchSwap:
    """`net`, made with `vgg=True, depth=0`, with the public VGG19 and its decoder as its feature space."""
    assert isinstance(net.space, Vgg)
    for part, file in ((net.space.encoder, features), (net.space.decoder, decoder)):
        part.load_state_dict({key: value.float() for key, value in load_file(file).items()}, strict=True)
    return net
