"""Networks small enough for tests, installed in a folder of their own and gone after the test."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import registry
from models.network import Network, SizeRule
from models.registry import Architecture
from service.settings import Settings

MANIFEST = """
[[model]]
name = "toy-fill"
architecture = "toy-fill"
licence = "none"
default_on = ["cpu", "cuda"]

[[model]]
name = "toy-draw"
architecture = "toy-draw"
licence = "none"

[[model]]
name = "toy-enlarge"
architecture = "toy-enlarge"
licence = "none"
default_on = ["cpu", "cuda"]
"""


def fixed(conv: nn.Conv2d) -> nn.Conv2d:
    """The same weights in every process: there is no file to load them from."""
    generator = torch.Generator().manual_seed(0)
    for parameter in conv.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return conv


class ToyFill(Network):
    """A convolution over what is known, and the sketch on top."""

    sides, window = SizeRule(32, 8), 32

    def __init__(self) -> None:
        super().__init__()
        self.conv = fixed(nn.Conv2d(4, 3, 9, padding=4))

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        filled = self.conv(torch.cat([image * (1 - mask), mask], 1)) + 0.5
        return filled if sketch is None else filled * (1 - sketch)


class ToyDraw(ToyFill):
    """Another gray of another seed."""

    def forward(
        self, image: Tensor, mask: Tensor, sketch: Tensor | None = None, seed: int | Tensor = 0
    ) -> Tensor:
        level = torch.as_tensor(seed).float().expand(len(image)) / 100
        return level.view(-1, 1, 1, 1).expand_as(image)


class ToyEnlarge(Network):
    """Sharpened features, read at the nearest pixel: exact in tiles, at any scale."""

    sides, window, receptive_field = SizeRule(), 24, 1

    def __init__(self) -> None:
        super().__init__()
        self.conv = fixed(nn.Conv2d(3, 3, 3, padding=1))

    def features(self, image: Tensor) -> Tensor:
        return image + 0.2 * self.conv(image)

    def render(
        self,
        features: Tensor,
        scale: Any,
        *,
        origin: tuple[int, int] = (0, 0),
        region: tuple[int, int, int, int] | None = None,
    ) -> Tensor:
        vertical, horizontal = map(Fraction, scale)
        assert region is not None
        top, left, height, width = region
        rows = [int((top + i) / vertical) - origin[0] for i in range(height)]
        columns = [int((left + i) / horizontal) - origin[1] for i in range(width)]
        assert 0 <= min(rows) <= max(rows) < features.shape[2]
        return features[:, :, rows][:, :, :, columns]


def install_toys(monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: Any) -> Settings:
    """Settings for a service that knows the toys and nothing else."""
    toys = (
        Architecture("toy-fill", "inpaint", "none", ToyFill, sketch=True),
        Architecture("toy-draw", "inpaint", "none", ToyDraw, draws=True),
        Architecture("toy-enlarge", "upscale", "none", ToyEnlarge),
    )
    for toy in toys:
        monkeypatch.setitem(registry._ARCHITECTURES, toy.name, toy)
    (folder / "manifest.toml").write_text(MANIFEST)
    return Settings(device="cpu", weights_dir=folder, **settings)
