"""The recipe of the inpainters: what a config asks for of the losses, masks and sketches at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from models import registry
from models.features import load_features
from models.training.crops import Crops, sent
from models.training.discriminators import CRITICS
from models.training.errors import TrainingError
from models.training.loop import Losses
from models.training.losses import adversarial, reconstruction
from models.training.losses.patches import contrast, patches
from models.training.losses.perceptual import perceptual, style
from models.training.masks import random_mask
from models.training.pictures import Pictures
from models.training.precision import autocast
from models.training.sketches import drop, edges

LONGEST = (
    2.5  # sides of a sample that a picture keeps: most of its scene fits one, and none is made too small
)
TINT = 0.1  # each colour is made brighter or darker by at most so much


@dataclass(frozen=True)
class Weights:
    """How much each loss counts; those at 0 are not computed."""

    hole: float = 6.0
    valid: float = 1.0
    coarse: float = 1.0  # of the outputs before the last
    pyramid: float = 0.0  # of the side outputs, for networks that have a `pyramid`
    perceptual: float = 0.0
    style: float = 0.0
    smooth: float = 0.0
    frequency: float = 0.0
    patches: float = 0.0
    contrast: float = 0.0
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
    growing: int = 0  # steps until holes are as large as they get
    sketches: float = 0.0  # share of samples that keep a sketch
    discount: float = 1.0  # what a pixel of the hole counts for, to the power of its distance to the rim
    critic: str = "patches"
    critic_width: int = 64
    adversary: str = "hinge"
    clip: float = 1.0
    compile: bool = False
    loss: Weights = field(default_factory=Weights)
    arguments: dict[str, Any] = field(default_factory=dict)


Batch = tuple[Tensor, Tensor, Tensor]  # bytes of pictures, tints, masks


@dataclass(frozen=True)
class Answers:
    """What a network makes of a batch, all in float32."""

    pictures: list[Tensor]  # the final one last
    sides: list[Tensor] = field(default_factory=list)  # smaller ones, deepest last
    losses: dict[str, Tensor] = field(default_factory=dict)  # of what else it answers
    watched: dict[str, Tensor] = field(default_factory=dict)  # logged, and learnt from elsewhere


def outputs(
    net: nn.Module,
    image: Tensor,
    mask: Tensor,
    sketch: Tensor | None,
    sides: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """The network's pictures, the final one last, and its side outputs where they are wanted."""
    if sides:
        answer, *smaller = net.pyramid(image, mask)  # type: ignore[operator]
        return [answer], smaller
    if hasattr(net, "stages"):
        return net.stages(image, mask, sketch), []  # type: ignore[operator]
    return [net(image, mask, sketch)], []


class InpaintRecipe:
    def __init__(
        self,
        architecture: str,
        config: InpaintConfig,
        pictures: Pictures,
        device: torch.device,
        features: nn.Module | None,
    ) -> None:
        self.config, self.device = config, device
        self.crops = Crops(pictures, device)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every batch has the same shape
            torch.set_float32_matmul_precision("high")  # attention matches in float32
        self.net: nn.Module = registry.create(architecture, **config.arguments)
        self.modules: dict[str, nn.Module] = {"net": self.net}
        self.optimisers = {"net": self.prepared(self.net, config.rate)}
        self.critic: nn.Module | None = None
        if config.loss.adversarial:
            self.critic = CRITICS[config.critic](config.critic_width)
            self.modules["critic"] = self.critic
            self.optimisers["critic"] = self.prepared(self.critic, config.critic_rate)
        self.features: Callable[[Tensor], list[Tensor]] | None = features.to(device) if features else None
        if self.features is None and (config.loss.perceptual or config.loss.style):
            raise TrainingError("perceptual and style losses need a feature network: --features")
        self.outputs = outputs
        if config.compile:
            self.outputs = torch.compile(outputs)
            self.features = torch.compile(self.features) if self.features else None
        self.chance = torch.Generator()

    def prepared(self, net: nn.Module, rate: float) -> torch.optim.Optimizer:
        net.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
        fused = self.device.type == "cuda"
        return torch.optim.Adam(learning, lr=rate, betas=self.config.betas, fused=fused)

    def batch(self, step: int, rng: np.random.Generator) -> Batch:
        count, side, growing = self.config.batch, self.config.side, self.config.growing
        progress = min(1.0, step / growing) if growing else 1.0
        pictures = self.crops.scenes(rng, count, side)
        tints = rng.uniform(1 - TINT, 1 + TINT, (count, 3, 1, 1)).astype(np.float32)
        masks = np.stack([random_mask(rng, side, side, progress) for _ in range(count)])[:, None]
        return pictures, sent(tints, self.device), sent(masks, self.device)

    def prepare(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Picture, mask and sketch as the network takes them."""
        pictures, tints, masks = batch
        image = (pictures.float() / 255 * tints).clamp(0, 1).contiguous(memory_format=torch.channels_last)
        kept = self.config.sketches
        return image, masks.float(), drop(edges(image), kept, self.chance) if kept else None

    def step(self, batch: Batch, step: int) -> Losses:
        self.chance.manual_seed(step)  # so that a resumed run draws what an unbroken one would have
        truth, mask, sketch = self.prepare(batch)
        self.net.train()
        answers = self.answers(truth, mask, sketch, step)
        losses = dict(answers.watched)
        composite = answers.pictures[-1] * mask + truth * (1 - mask)
        seen = torch.zeros_like(mask) if sketch is None else sketch * mask
        if self.critic is not None:
            losses["critic"] = self.teach_critic(truth, composite.detach(), mask, seen)
        parts = answers.losses | self.parts(truth, answers, composite, mask)
        if self.critic is not None:
            parts |= self.convince_critic(truth, composite, mask, seen)
        total = torch.stack(list(parts.values())).sum()
        optimiser = self.optimisers["net"]
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip)
        optimiser.step()
        # As tensors: reading a number off a GPU would make each step wait for it.
        return {name: value.detach() for name, value in (losses | parts).items()} | {"gradient": norm}

    def answers(self, truth: Tensor, mask: Tensor, sketch: Tensor | None, step: int) -> Answers:
        with autocast(self.device):
            outputs = self.outputs(self.net, truth, mask, sketch, bool(self.config.loss.pyramid))
        pictures, sides = ([answer.float() for answer in part] for part in outputs)
        return Answers(pictures, sides)

    def parts(self, truth: Tensor, answers: Answers, composite: Tensor, mask: Tensor) -> dict[str, Tensor]:
        loss, discount = self.config.loss, self.config.discount
        near = reconstruction.discount(mask, discount) if discount < 1 else None
        each = [
            reconstruction.l1(answer, truth, mask, loss.hole, loss.valid, near) for answer in answers.pictures
        ]
        parts = {"l1": each[-1]}
        if each[1:] and loss.coarse:
            parts["coarse"] = loss.coarse * torch.stack(each[:-1]).sum()
        if answers.sides:
            parts["pyramid"] = loss.pyramid * reconstruction.pyramid(answers.sides, truth)
        if loss.smooth:
            parts["smooth"] = loss.smooth * reconstruction.total_variation(composite, mask)
        if loss.frequency:
            parts["frequency"] = loss.frequency * reconstruction.frequency(composite, truth)
        if loss.patches:
            parts["patches"] = loss.patches * patches(composite, truth, mask, self.chance)
        if loss.contrast:
            parts["contrast"] = loss.contrast * contrast(composite, truth, mask, self.chance)
        if self.features is not None and (loss.perceptual or loss.style):
            with autocast(self.device):
                ours = self.features(composite)
                with torch.no_grad():
                    theirs = self.features(truth)
            if loss.perceptual:
                parts["perceptual"] = loss.perceptual * perceptual(ours, theirs)
            if loss.style:
                parts["style"] = loss.style * style(ours, theirs)
        return parts

    def judged(self, picture: Tensor, mask: Tensor, seen: Tensor) -> list[Tensor]:
        assert self.critic is not None
        with autocast(self.device):
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
        self.chance.manual_seed(0)
        truth, mask, sketch = self.prepare(self.batch(self.config.growing, np.random.default_rng(0)))
        answers, _ = outputs(net, truth, mask, sketch)
        given = truth * (1 - mask) + (0.5 if sketch is None else 1 - sketch) * mask
        columns = [
            given,
            *self.drawn(net, truth, mask, sketch),
            *(answer * mask + truth * (1 - mask) for answer in answers),
            truth,
        ]
        sheet = torch.cat([torch.cat(list(column[:4]), -2) for column in columns], -1)
        return Image.fromarray((sheet.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy())

    def drawn(self, net: nn.Module, image: Tensor, mask: Tensor, sketch: Tensor | None) -> list[Tensor]:
        """What the network makes on its way to the picture, as pictures."""
        return []


def make_recipe(
    config: dict[str, Any], data: Path, cache: Path, device: torch.device, features: Path | None = None
) -> InpaintRecipe:
    recipe = read_config(config["recipe"])
    return InpaintRecipe(config["architecture"], recipe, *materials(recipe, data, cache, device, features))


def read_config(asked: dict[str, Any]) -> InpaintConfig:
    asked = asked | {"loss": Weights(**asked.get("loss", {}))}
    if "betas" in asked:
        asked["betas"] = tuple(asked["betas"])
    return InpaintConfig(**asked)


def materials(
    config: InpaintConfig, data: Path, cache: Path, device: torch.device, features: Path | None
) -> tuple[Pictures, torch.device, nn.Module | None]:
    """What a recipe is made of besides its config."""
    pictures = Pictures(data, cache, int(LONGEST * config.side))
    return pictures, device, load_features(features) if features else None
