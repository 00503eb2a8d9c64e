"""The recipe of the inpainters: what a config asks for of the losses, masks and sketches at hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from models import registry
from models.features import load_features
from models.training.discriminators import PatchCritic
from models.training.loop import clip
from models.training.losses import adversarial, reconstruction
from models.training.losses.perceptual import perceptual, style
from models.training.masks import random_mask
from models.training.pictures import Pictures
from models.training.sketches import drop, edges

SMALLEST_CROP = 0.5  # of a picture's shorter side: closer crops are no scenes any more


@dataclass(frozen=True)
class Weights:
    """How much each loss counts; those at 0 are not computed."""

    hole: float = 6.0
    valid: float = 1.0
    coarse: float = 1.0  # of the outputs before the last
    discounted: float = 0.0
    perceptual: float = 0.0
    style: float = 0.0
    smooth: float = 0.0
    frequency: float = 0.0
    adversarial: float = 0.0
    matching: float = 0.0
    r1: float = 0.0
    penalty: float = 0.0  # WGAN-GP


@dataclass(frozen=True)
class InpaintConfig:
    rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    critic_rate: float = 2e-4
    batch: int = 8
    side: int = 256
    growing: float = 0.5  # share of the budget's steps over which holes grow; needs `steps` in the schedule
    sketches: float = 0.0  # share of samples that keep a sketch
    adversary: str = "hinge"
    critic_width: int = 64
    clip: float = 1.0
    compile: bool = False
    workers: int = 2  # threads that make samples
    loss: Weights = field(default_factory=Weights)
    arguments: dict[str, Any] = field(default_factory=dict)


Batch = tuple[Tensor, Tensor]


class InpaintRecipe:
    def __init__(
        self,
        architecture: str,
        config: InpaintConfig,
        pictures: Pictures,
        device: torch.device,
        features: nn.Module | None,
        steps: int | None,
    ) -> None:
        self.config, self.device, self.pictures, self.steps = config, device, pictures, steps
        self.net: nn.Module = registry.create(architecture, **config.arguments)
        self.net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stages = getattr(self.net, "stages", None) or self.only_stage
        self.modules = {"net": self.net}
        learning = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "net": torch.optim.Adam(learning, lr=config.rate, betas=config.betas)
        }
        self.critic: nn.Module | None = None
        if config.loss.adversarial:
            self.critic = PatchCritic(5, config.critic_width).to(device)
            self.modules["critic"] = self.critic
            self.optimisers["critic"] = torch.optim.Adam(
                self.critic.parameters(), lr=config.critic_rate, betas=config.betas
            )
        self.features = features.to(device) if features is not None else None
        if self.features is None and (config.loss.perceptual or config.loss.style):
            raise ValueError("this config's perceptual and style losses need a feature network: --features")
        if config.compile:
            self.stages = torch.compile(self.stages)
        self.pool = ThreadPoolExecutor(config.workers)
        self.chance = torch.Generator().manual_seed(0)

    def only_stage(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> list[Tensor]:
        return [self.net(image, mask, sketch)]

    def batch(self, step: int, rng: np.random.Generator) -> Batch:
        progress = min(1.0, step / (self.steps * self.config.growing)) if self.steps else 1.0
        seeds = rng.integers(2**63, size=self.config.batch)
        samples = list(self.pool.map(lambda seed: self.sample_of(int(seed), progress), seeds))
        images, masks = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples, strict=True))
        return images.permute(0, 3, 1, 2), masks[:, None]

    def sample_of(self, seed: int, progress: float) -> tuple[Any, Any]:
        """A crop of random size, mildly recoloured, and its mask; both uint8."""
        rng = np.random.default_rng(seed)
        side = self.config.side
        picture = self.pictures[int(rng.integers(len(self.pictures)))]
        shorter = min(picture.shape[:2])
        crop = int(rng.uniform(max(SMALLEST_CROP, min(1.0, side / shorter)), 1.0) * shorter)
        top = int(rng.integers(picture.shape[0] - crop + 1))
        left = int(rng.integers(picture.shape[1] - crop + 1))
        part = Image.fromarray(picture[top : top + crop, left : left + crop])
        pixels = np.asarray(part.resize((side, side), Image.Resampling.BOX if crop > side else None))
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        gain = rng.uniform(0.9, 1.1, 3).astype(np.float32)
        coloured = np.clip(pixels * gain, 0, 255).astype(np.uint8)
        return coloured, random_mask(rng, side, side, progress)

    def on_device(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        image, mask = (part.to(self.device, non_blocking=True).float() for part in batch)
        image = (image / 255).contiguous(memory_format=torch.channels_last)
        kept = self.config.sketches
        return image, mask, drop(edges(image), kept, self.chance) if kept else None

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        truth, mask, sketch = self.on_device(batch)
        self.net.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            answers = self.stages(truth, mask, sketch)
        answers = [answer.float() for answer in answers]
        composite = answers[-1] * mask + truth * (1 - mask)
        seen = torch.zeros_like(mask) if sketch is None else sketch * mask
        losses: dict[str, Tensor] = {}
        if self.critic is not None:
            losses["critic"] = self.teach_critic(truth, composite.detach(), mask, seen)
        parts = self.parts(truth, answers, composite, mask, seen)
        total = torch.stack(list(parts.values())).sum()
        optimiser = self.optimisers["net"]
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = clip(self.net.parameters(), self.config.clip)
        optimiser.step()
        losses |= parts
        names = list(losses)
        values = torch.stack([losses[name].detach() for name in names]).tolist()  # one wait for the device
        return dict(zip(names, values, strict=True)) | {"gradient": norm}

    def parts(
        self, truth: Tensor, answers: list[Tensor], composite: Tensor, mask: Tensor, seen: Tensor
    ) -> dict[str, Tensor]:
        loss = self.config.loss
        weights = [loss.coarse] * (len(answers) - 1) + [1.0]
        parts = {
            "l1": torch.stack(
                [
                    weight * reconstruction.l1(answer, truth, mask, loss.hole, loss.valid)
                    for weight, answer in zip(weights, answers, strict=True)
                ]
            ).sum()
        }
        if loss.discounted:
            near = reconstruction.discount(mask)
            parts["discounted"] = loss.discounted * ((answers[-1] - truth).abs() * near).mean()
        if loss.smooth:
            parts["smooth"] = loss.smooth * reconstruction.total_variation(composite, mask)
        if loss.frequency:
            parts["frequency"] = loss.frequency * reconstruction.frequency(composite, truth)
        if self.features is not None and (loss.perceptual or loss.style):
            with torch.autocast(self.device.type, torch.bfloat16):
                ours = self.features(composite)
                with torch.no_grad():
                    theirs = self.features(truth)
            if loss.perceptual:
                parts["perceptual"] = loss.perceptual * perceptual(ours, theirs)
            if loss.style:
                parts["style"] = loss.style * style(ours, theirs)
        if self.critic is not None:
            parts |= self.convince_critic(truth, composite, mask, seen)
        return parts

    def judged(self, picture: Tensor, mask: Tensor, seen: Tensor) -> list[Tensor]:
        assert self.critic is not None
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.critic(torch.cat([2 * picture - 1, mask, seen], 1))

    def teach_critic(self, truth: Tensor, fill: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
        assert self.critic is not None
        loss = self.config.loss
        self.critic.requires_grad_(True)
        real = truth.detach().requires_grad_(bool(loss.r1))
        scores, fake = self.judged(real, mask, seen)[-1].float(), self.judged(fill, mask, seen)[-1].float()
        total = adversarial.CRITICS[self.config.adversary](scores, fake)
        if loss.r1:
            total = total + loss.r1 * adversarial.r1(scores, real)
        if loss.penalty:
            total = total + loss.penalty * adversarial.gradient_penalty(
                lambda between: self.judged(between, mask, seen)[-1].float(), truth, fill, mask, self.chance
            )
        optimiser = self.optimisers["critic"]
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        self.critic.requires_grad_(False)
        return total

    def convince_critic(
        self, truth: Tensor, composite: Tensor, mask: Tensor, seen: Tensor
    ) -> dict[str, Tensor]:
        loss = self.config.loss
        ours = self.judged(composite, mask, seen)
        generator = adversarial.GENERATORS[self.config.adversary]
        parts = {"adversarial": loss.adversarial * generator(ours[-1].float())}
        if loss.matching:
            with torch.no_grad():
                theirs = self.judged(truth, mask, seen)
            parts["matching"] = loss.matching * adversarial.feature_matching(ours, theirs)
        return parts

    @torch.no_grad()
    def sample(self, net: nn.Module) -> Image.Image:
        """Four pictures: what was given, each stage, and the truth."""
        truth, mask, sketch = self.on_device(self.batch(10**9, np.random.default_rng(0)))
        truth, mask = truth[:4], mask[:4]
        sketch = None if sketch is None else sketch[:4]
        stages = getattr(net, "stages", None) or self.only_stage
        answers = stages(truth, mask, sketch)
        given = truth * (1 - mask) + (0.5 if sketch is None else 1 - sketch) * mask
        columns = [given, *(answer * mask + truth * (1 - mask) for answer in answers), truth]
        sheet = torch.cat([torch.cat(list(column), -2) for column in columns], -1)
        return Image.fromarray((sheet.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy())


def make_recipe(
    config: dict[str, Any], data: Path, cache: Path, device: torch.device, features: Path | None = None
) -> InpaintRecipe:
    asked = dict(config["recipe"])
    asked["loss"] = Weights(**asked.get("loss", {}))
    asked["betas"] = tuple(asked.get("betas", (0.5, 0.999)))
    return InpaintRecipe(
        config["architecture"],
        InpaintConfig(**asked),
        Pictures(data, cache),
        device,
        load_features(features) if features else None,
        config["schedule"].get("steps"),
    )
