"""Pretrained feature networks, for losses and for judging: never needed to serve.

The files are the user's, safetensors or .pth with the layers' original names: Tiny Darknet (an ImageNet
classifier), VGG19 up to relu3_1, or any VGG of torchvision. Which one a file holds is told by its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class TorchvisionVgg(nn.Module):
    """Features after the first convolution of each block: relu1_1, relu2_1 and so on, at strides 1, 2 ...

    Its layers are those of the state's `features`: a convolution's number is two after the one before, three
    where they are pooled between.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None], persistent=False)
        numbers = (
            key.split(".")[1] for key in state if key.startswith("features.") and key.endswith("weight")
        )
        self.features = nn.ModuleDict()
        for number in sorted(numbers, key=int):
            leaving, entering = state[f"features.{number}.weight"].shape[:2]
            self.features[number] = nn.Conv2d(entering, leaving, 3, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        taps: list[Tensor] = []
        x, before = (image - self.mean) / self.deviation, -3
        for name, convolution in self.features.items():
            first = int(name) - before == 3
            if first and taps:
                x = F.max_pool2d(x, 2)
            x = F.relu(convolution(x))
            if first:
                taps.append(x)
            before = int(name)
        return taps


def read(file: Path) -> dict[str, Tensor]:
    state = torch.load(file, weights_only=True) if file.suffix in (".pth", ".pt") else load_file(file)
    return {key: value.float() for key, value in state.items()}


def load_features(file: Path) -> nn.Module:
    """The frozen network of a file, taking pictures in [0, 1]."""
    state = read(file)
    net: nn.Module
    if "features.0.weight" in state:
        net = TorchvisionVgg(state)
    else:
        net = TinyDarknet() if "conv1.weight" in state else Vgg19()
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
