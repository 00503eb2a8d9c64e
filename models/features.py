"""Pretrained feature networks, for losses and for judging: never needed to serve.

The files are the user's: Tiny Darknet (an ImageNet classifier) or VGG19 up to relu3_1, as safetensors with
the layers' original names. Which one a file holds is told by its keys.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class TinyDarknet(nn.Module):
    """Features after conv2, conv6, conv10 and conv14, at strides 2, 4, 8 and 16."""

    # channels / kernel (3 where it is not said), P: halve
    LAYERS = "16,P,32,P,16/1,128,16/1,128,P,32/1,256,32/1,256,P,64/1,512,64/1,512".split(",")  # noqa: SIM905
    TAPS = (2, 6, 10, 14)

    def __init__(self) -> None:
        super().__init__()
        channels, number = 3, 0
        for layer in self.LAYERS:
            if layer == "P":
                continue
            leaving, _, kernel = layer.partition("/")
            number += 1
            size = int(kernel or 3)
            self.add_module(f"conv{number}", nn.Conv2d(channels, int(leaving), size, padding=size // 2))
            channels = int(leaving)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, taps, number = image, [], 0
        for layer in self.LAYERS:
            if layer == "P":
                x = F.max_pool2d(x, 2)
                continue
            number += 1
            x = F.leaky_relu(self.get_submodule(f"conv{number}")(x), 0.1)
            if number in self.TAPS:
                taps.append(x)
        return taps


class Vgg19(nn.Module):
    """Features after relu1_1, relu2_1 and relu3_1, at strides 1, 2 and 4."""

    CONVOLUTIONS = (("2", 3, 64), ("5", 64, 64), ("9", 64, 128), ("12", 128, 128), ("16", 128, 256))
    TAPS = ("2", "9", "16")

    def __init__(self) -> None:
        super().__init__()
        self.add_module("0", nn.Conv2d(3, 3, 1))
        for name, entering, leaving in self.CONVOLUTIONS:
            self.add_module(name, nn.Conv2d(entering, leaving, 3))

    def forward(self, image: Tensor) -> list[Tensor]:
        x, taps = self.get_submodule("0")(image), []
        for name, _, _ in self.CONVOLUTIONS:
            if name in ("9", "16"):
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = F.relu(self.get_submodule(name)(F.pad(x, (1, 1, 1, 1), mode="reflect")))
            if name in self.TAPS:
                taps.append(x)
        return taps


def load_features(file: Path) -> nn.Module:
    """The frozen network of a file, taking pictures in [0, 1]."""
    state = {key: value.float() for key, value in load_file(file).items()}
    net: nn.Module = TinyDarknet() if "conv1.weight" in state else Vgg19()
    wanted = net.state_dict().keys()
    net.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=True)
    return net.eval().requires_grad_(False)


def perceptual_distance(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """(B,): squared distance of unit features, summed over channels, averaged over positions and taps."""
    distances = [
        (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1).mean((1, 2))
        for a, b in zip(one, other, strict=True)
    ]
    return torch.stack(distances).mean(0)
