"""The recipe of upscalers that restore: a teacher's answers to degraded pictures, at a scale of each batch.

The answers are sharp and always the same, so that an L1 distance to them teaches a small network what it
otherwise takes a critic to teach. Between times it sees clean pictures, as `models.training.upscale` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from models.features import load_features
from models.layers.colours import luma
from models.training.crops import degrade
from models.training.discriminators import PatchCritic
from models.training.errors import TrainingError
from models.training.loop import Losses
from models.training.losses.adversarial import CRITICS, GENERATORS
from models.training.losses.perceptual import perceptual
from models.training.losses.reconstruction import frequency
from models.training.precision import autocast
from models.training.teacher import FACTOR, Lessons, LessonsConfig
from models.training.upscale import TENTHS, WHOLE, UpscaleConfig, UpscaleRecipe

SAME = Fraction(1)
CRITIC_LAYERS = 4

Batch = tuple[Fraction, Tensor, Tensor, Tensor]  # small pictures, targets by pixel and by feature


@dataclass(frozen=True)
class RestoreConfig(UpscaleConfig):
    exact: float = 0.2  # share of batches from clean pictures, with the truth as the target
    same: float = 0.1  # share of the others at a scale of 1
    flat: float = 0.0  # share of their samples that are of one colour, which shows what rings at borders
    border: int = 4  # small pixels of a lesson that are left out: the teacher saw too little beyond them
    truth: float = 0.0  # how much of the truth is mixed into the teacher's answer, pixel by pixel
    seen: float = 0.5  # share of the samples that the feature network and the critic compare with the truth
    perceptual: float = 0.0
    frequency: float = 0.0
    adversarial: float = 0.0
    adversary: str = "hinge"
    critic_rate: float = 2e-4
    critic_width: int = 64
    window: int = 96  # side of the part of each answer that the feature network and the critic look at
    lessons: dict[str, Any] = field(default_factory=dict)  # of LessonsConfig


class RestoreRecipe:
    def __init__(
        self,
        architecture: str,
        config: RestoreConfig,
        data: Path,
        cache: Path,
        device: torch.device,
        features: nn.Module | None,
    ) -> None:
        self.config, self.device = config, device
        self.plain = UpscaleRecipe(architecture, config, data, cache, device)
        self.net, self.modules, self.optimisers = self.plain.net, self.plain.modules, self.plain.optimisers
        self.lessons = Lessons(cache, LessonsConfig(**config.lessons))
        if not len(self.lessons):
            raise TrainingError(f"no lessons in {self.lessons.folder}: python -m models.training.teacher")
        if config.perceptual and features is None:
            raise TrainingError("a perceptual loss needs a feature network: --features")
        self.features = features.to(device) if features else None
        self.critic: PatchCritic | None = None
        if config.adversarial:
            self.critic = PatchCritic(config.critic_width, CRITIC_LAYERS, seen=3)
            self.critic.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.modules["critic"] = self.critic
            self.optimisers["critic"] = torch.optim.Adam(
                self.critic.parameters(),
                lr=config.critic_rate,
                betas=(0.5, 0.99),
                fused=device.type == "cuda",
            )

    def batch(self, step: int, rng: np.random.Generator) -> Batch:
        config = self.config
        if rng.random() < config.exact:
            scale, small, truth = self.plain.batch(step, rng)
            return scale, small, truth, truth
        scale = SAME
        if rng.random() >= config.same:
            choices = WHOLE if rng.random() < config.whole else TENTHS
            scale = choices[int(rng.integers(len(choices)))]
        records = self.lessons.read()  # there may be more than before
        chosen = rng.integers(len(records), size=config.batch)
        parts = (self.part(records[number], rng) for number in chosen)
        small, answer, truth = (torch.stack(part) for part in zip(*parts, strict=True))
        # The teacher makes most pictures a little darker: its details are wanted, not its colours.
        answer = answer + (small.float().mean((2, 3), True) - answer.float().mean((2, 3), True))
        if scale != FACTOR:
            side = int(config.patch * scale)
            answer, truth = (degrade(large, FACTOR / scale, side) for large in (answer, truth))
        known = torch.from_numpy(records["known"][chosen] >= float(scale))
        clean = torch.from_numpy(records["clean"][chosen])
        shown = torch.from_numpy(rng.random(config.batch) < config.seen)
        targets = [
            torch.lerp(answer.float(), truth.float(), (known * share)[:, None, None, None])
            for share in (torch.where(clean, 1.0, config.truth), (clean | shown).float())
        ]
        for number in np.flatnonzero(rng.random(config.batch) < config.flat):
            colour = torch.from_numpy(rng.integers(256, size=(3, 1, 1), dtype=np.uint8))
            for part in (small, *targets):
                part[number] = colour
        return scale, small.to(self.device), targets[0].to(self.device), targets[1].to(self.device)

    def part(self, record: npt.NDArray[np.void], rng: np.random.Generator) -> list[Tensor]:
        """A patch of a lesson's pictures, flipped and turned at random."""
        free = self.lessons.config.side - 2 * self.config.border - self.config.patch + 1
        top, left = self.config.border + rng.integers(free, size=2)
        upside, mirrored, turned = rng.random(3) < 0.5
        patches = []
        for name, factor in (("small", 1), ("answer", FACTOR), ("truth", FACTOR)):
            rows, columns = (slice(factor * at, factor * (at + self.config.patch)) for at in (top, left))
            patch = record[name][rows, columns]
            patch = patch[:: -1 if upside else 1, :: -1 if mirrored else 1]
            patch = patch.swapaxes(0, 1) if turned else patch
            patches.append(torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1))))
        return patches

    def step(self, batch: Batch, step: int) -> Losses:
        scale = batch[0]
        small, target, seen = (part.float() / 255 for part in batch[1:])
        small = small.to(memory_format=torch.channels_last)
        self.net.train()
        with autocast(self.device):
            features = self.net.features(small)  # type: ignore[operator]
            side = target.shape[-1]
            answer = self.net.render(features, scale, region=(0, 0, side, side)).float()  # type: ignore[operator]
        error = answer - target
        losses = {"l1": error.abs().mean(), "luma": luma(error).abs().mean()}
        if self.config.frequency:
            losses["frequency"] = frequency(answer, target)
        taught: dict[str, Tensor] = {}
        part = self.part_seen(answer.shape[-1], step)
        if self.features is not None and self.config.perceptual:
            with autocast(self.device):
                ours, wanted = self.features(answer[part]), self.features(seen[part])
            # The first features see single pixels, which the L1 distance judges already.
            losses["perceptual"] = perceptual(ours[1:], wanted[1:])
        if self.critic is not None:
            taught["critic"] = self.teach_critic(seen[part], answer[part].detach())
            losses["adversarial"] = GENERATORS[self.config.adversary](self.judged(answer[part]))
        loss = torch.stack([getattr(self.config, name, 1.0) * value for name, value in losses.items()]).sum()
        optimiser = self.optimisers["net"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip)
        optimiser.step()
        return {name: value.detach() for name, value in (losses | taught).items()} | {"gradient": norm}

    def part_seen(self, length: int, step: int) -> tuple[Any, slice, slice]:
        """Where the feature network and the critic look, to save their time."""
        side = min(self.config.window, length)
        top, left = (int(start) for start in np.random.default_rng(step).integers(length - side + 1, size=2))
        return (..., slice(top, top + side), slice(left, left + side))

    def judged(self, picture: Tensor) -> Tensor:
        assert self.critic is not None
        with autocast(self.device):
            scores: Tensor = self.critic(2 * picture - 1)[-1]
        return scores.float()

    def teach_critic(self, real: Tensor, fake: Tensor) -> Tensor:
        assert self.critic is not None
        self.critic.requires_grad_(True)
        loss = CRITICS[self.config.adversary](self.judged(real), self.judged(fake))
        optimiser = self.optimisers["critic"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        self.critic.requires_grad_(False)
        return loss

    def sample(self, net: nn.Module) -> Image.Image:
        """What was given, ours, the teacher's and the truth side by side at x4, for the first lesson."""
        record = self.lessons.records[0]
        with torch.no_grad():
            image = torch.from_numpy(record["small"].copy()).permute(2, 0, 1)[None]
            answer = net(image.to(self.device).float() / 255, float(FACTOR))
        ours = (answer[0].clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()
        given = record["small"].repeat(FACTOR, 0).repeat(FACTOR, 1)
        return Image.fromarray(np.concatenate([given, ours, record["answer"], record["truth"]], 1))


def make_recipe(
    config: dict[str, Any], data: Path, cache: Path, device: torch.device, features: Path | None = None
) -> RestoreRecipe:
    network = load_features(features) if features else None
    return RestoreRecipe(
        config["architecture"], RestoreConfig(**config["recipe"]), data, cache, device, network
    )
