"""patch-swap: multi-scale feature image translation, "infer, match, translate" (Song et al., ECCV 2018).

The paper's: Image2Feature guesses what the hole holds; features of that picture; patch-swap moves the known
features most like the guess into the hole; Feature2Image makes a picture of them. It learns, by itself, on
swapped features of the true picture, so that it sees the seams of a swap and not the guess's mistakes: a
network in training mode therefore looks into the hole. Larger pictures start from the answer at half size.

Ours, for the paper wants 45, 0.6 and 67 million parameters: Image2Feature is `structure`; the feature space
has VGG19's layers to relu3_1 and its mirrored decoder, as narrow as `width` says, and both learn together to
give a picture back; Feature2Image adds a gated U-Net of `depth` halvings that is told which features were
swapped. With `width=64, depth=0` the public VGG19 and its decoder fit in, layer by layer: see `with_vgg`.
The guess is softer than the picture, so patches are compared in pictures that are both blurred by `sigma`
pixels (0 compares as the paper does) and copied as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from models.inpainting.guided_patchmatch import blur
from models.inpainting.structure import Doubling, Residual, Structure, halving
from models.layers.patch_swap import patch_swap
from models.registry import SizeRule, architecture

STRIDE = 4  # of the features


def conv(entering: int, leaving: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(1), nn.Conv2d(entering, leaving, 3), nn.ReLU()]


def encoder(width: int) -> nn.Sequential:
    """VGG19 to relu3_1, of `width` 64; layers have the numbers that they have in the public file."""
    return nn.Sequential(
        nn.Conv2d(3, 3, 1),
        *conv(3, width),
        *conv(width, width),
        nn.MaxPool2d(2),
        *conv(width, 2 * width),
        *conv(2 * width, 2 * width),
        nn.MaxPool2d(2),
        *conv(2 * width, 4 * width),
    )


def decoder(width: int) -> nn.Sequential:
    return nn.Sequential(
        *conv(4 * width, 2 * width),
        nn.Upsample(scale_factor=2.0),
        *conv(2 * width, 2 * width),
        *conv(2 * width, width),
        nn.Upsample(scale_factor=2.0),
        *conv(width, width),
        nn.ReflectionPad2d(1),
        nn.Conv2d(width, 3, 3),
    )


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
    size=SizeRule(minimum=16, multiple=16),
    window=256,
    sketch=True,
)
class PatchSwap(nn.Module):
    def __init__(
        self,
        width: int = 24,
        depth: int = 1,
        widths: Sequence[int] = (32, 64, 96),
        blocks: int = 2,
        scales: int = 1,
        sigma: float = 2.0,
    ) -> None:
        super().__init__()
        if depth > 2:
            raise ValueError("depth: at most 2, for the features of the least size are 4 on a side")
        self.multiple = self.minimum = 16 * 2 ** (scales - 1)
        self.window = 256 * 2 ** (scales - 1)
        self.scales, self.sigma = scales, sigma
        self.image2feature = Structure(widths, blocks)
        self.encoder = encoder(width)
        self.mending = Mending(4 * width, depth)
        self.decoder = decoder(width)

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
        features = self.encoder(picture)
        with torch.no_grad():
            looks = self.encoder(blur(picture, self.sigma)) if self.sigma else None
        return self.decoder(self.mending(patch_swap(features, hole, looks), hole))


def halved(known: Tensor, mask: Tensor, sketch: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Half the size, for the scale below; what is missing in part is missing."""
    hole = F.max_pool2d(mask, 2)
    drawn = None if sketch is None else F.max_pool2d(sketch, 2)
    return F.avg_pool2d(known, 2) * (1 - hole), hole, drawn


def resized(picture: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(picture, like.shape[-2:], mode="bilinear", align_corners=False)


def with_vgg(net: PatchSwap, features: Path, decoder: Path) -> PatchSwap:
    """`net`, of width 64 and depth 0, with the public VGG19 and its decoder as its feature space."""
    for part, file in ((net.encoder, features), (net.decoder, decoder)):
        part.load_state_dict({key: value.float() for key, value in load_file(file).items()}, strict=True)
    return net
