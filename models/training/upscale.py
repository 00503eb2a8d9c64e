"""The recipe of the upscalers: L1 at a scale drawn for each batch."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from models import registry
from models.imresize import imresize
from models.layers.colours import luma
from models.training.crops import Crops, degrade
from models.training.loop import Losses
from models.training.pictures import Pictures
from models.training.precision import autocast

TENTHS = [Fraction(tenth, 10) for tenth in range(11, 41)]
WHOLE = [Fraction(2), Fraction(3), Fraction(4)]
SHRUNK = 400  # the longest side of a picture made smaller: a camera's blur and JPEG's blocks are gone


@dataclass(frozen=True)
class UpscaleConfig:
    rate: float = 8e-4
    batch: int = 16
    patch: int = 40  # small pixels
    whole: float = 0.5  # share of batches at exactly x2, x3 or x4
    shrunk: float = 0.0  # share of batches from pictures made smaller, which are sharper to the pixel
    luma: float = 0.0  # weight of the error in brightness, where eyes look, beside that of the colours
    clip: float = 0.5
    arguments: dict[str, Any] | None = None


Batch = tuple[Fraction, Tensor, Tensor]


class UpscaleRecipe:
    def __init__(
        self, architecture: str, config: UpscaleConfig, data: Path, cache: Path, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self.net: nn.Module = registry.create(architecture, **(config.arguments or {}))
        self.net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.modules: dict[str, nn.Module] = {"net": self.net}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "net": torch.optim.Adam(
                self.net.parameters(), lr=config.rate, betas=(0.9, 0.99), fused=device.type == "cuda"
            )
        }
        self.pictures = Pictures(data, cache)
        self.crops = Crops(self.pictures, device)
        self.shrunk = Crops(Pictures(data, cache, SHRUNK), device) if config.shrunk else self.crops

    def batch(self, step: int, rng: np.random.Generator) -> Batch:
        choices = WHOLE if rng.random() < self.config.whole else TENTHS
        scale = choices[int(rng.integers(len(choices)))]
        patch = self.config.patch
        side = int(patch * scale)  # a remainder below one large pixel is cut off, as in the benchmarks
        crops = self.shrunk if rng.random() < self.config.shrunk else self.crops
        large = crops.take(rng, self.config.batch, side)
        return scale, degrade(large, scale, patch), large

    def step(self, batch: Batch, step: int) -> Losses:
        scale, small, large = batch
        small = small.to(memory_format=torch.channels_last).float() / 255
        truth = large.float() / 255
        self.net.train()
        with autocast(self.device):
            features = self.net.features(small)  # type: ignore[operator]
            side = truth.shape[-1]
            answer = self.net.render(features, scale, region=(0, 0, side, side))  # type: ignore[operator]
        error = answer.float() - truth
        loss = self.loss(error)
        optimiser = self.optimisers["net"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip)
        optimiser.step()
        # As tensors: reading a number off a GPU would make each step wait for it.
        return {"l1": error.detach().abs().mean() * 255, "gradient": norm}

    def loss(self, error: Tensor) -> Tensor:
        return error.abs().mean() + self.config.luma * luma(error).abs().mean()

    def sample(self, net: nn.Module) -> Image.Image:
        """Bicubic, ours, truth side by side at x3, for one training picture."""
        truth = self.pictures[0][:288, :288]
        small = imresize(truth, 1 / 3)
        with torch.no_grad():
            image = torch.from_numpy(small).permute(2, 0, 1)[None]
            answer = net(image.to(self.device).float() / 255, 3.0)
        ours = (answer[0].clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(np.concatenate([imresize(small, 3), ours, truth], 1))


def make_recipe(
    config: dict[str, Any], data: Path, cache: Path, device: torch.device, features: Path | None = None
) -> UpscaleRecipe:
    return UpscaleRecipe(config["architecture"], UpscaleConfig(**config["recipe"]), data, cache, device)
