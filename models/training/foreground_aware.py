"""How foreground-aware learns, in three lessons as in its paper: structure first, then content, then both.

At first the contours learn from their content loss alone, and the image is completed without any. Then the
image is completed along the contours, which a critic now judges a little. At last the image's losses
reach the contours as well, and the critic counts for more. The paper gives no numbers of steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.inpainting.foreground_aware import ForegroundAware, joined
from models.training.discriminators import PatchCritic
from models.training.errors import TrainingError
from models.training.inpaint import Answers, InpaintConfig, InpaintRecipe, materials, read_config
from models.training.losses import adversarial
from models.training.losses.contour import contours_content, images_content
from models.training.pictures import Pictures
from models.training.precision import autocast


@dataclass(frozen=True)
class Curriculum:
    apart: int = 0  # steps of the first lesson
    joint: int = 0  # the step that the last lesson starts from
    content: float = 1.0
    hole: float = 5.0  # lambda of the contours' content loss
    image: float = 1.0  # of the image's content loss
    weak: float = 0.01  # the critic in the second lesson
    strong: float = 0.05  # and in the last
    critic_width: int = 16

    def critic(self, step: int) -> float:
        return 0.0 if step < self.apart else self.weak if step < self.joint else self.strong


class ContourLessons:
    """One step's answers, and the losses that other inpainters do not have."""

    def __init__(self, curriculum: Curriculum, net: nn.Module) -> None:
        if not isinstance(net, ForegroundAware):
            raise TrainingError("[recipe.contours] is for networks that complete contours: foreground-aware")
        self.curriculum, self.net = curriculum, net
        self.critic = PatchCritic(curriculum.critic_width, seen=1)

    def teach(
        self,
        truth: Tensor,
        mask: Tensor,
        sketch: Tensor | None,
        step: int,
        critic_optimiser: torch.optim.Optimizer,
    ) -> Answers:
        """The coarse and refined pictures, and the contours' losses."""
        course, net = self.curriculum, self.net
        given = net.given(truth, mask, sketch)
        contours = net.found(truth, torch.zeros_like(mask))
        with autocast(truth.device):
            coarse, refined = (logits.float() for logits in net.contours(truth, mask, given))
            if step < course.apart:
                contour = torch.zeros_like(mask)
            else:
                contour = joined(refined if step >= course.joint else refined.detach(), given, mask)
            answers = [answer.float() for answer in net.images(truth, mask, contour)]
        losses = {
            "contours": course.content * contours_content(coarse, refined, contours, mask, course.hole),
            "image": course.image * images_content(answers[0], answers[1], truth),
            "contour_adversarial": torch.zeros((), device=truth.device),
        }
        critic = torch.zeros((), device=truth.device)
        weight = course.critic(step)
        if weight:
            drawn = refined.sigmoid() * mask + contours * (1 - mask)
            critic = self.teach_critic(contours, drawn.detach(), critic_optimiser)
            losses["contour_adversarial"] = weight * adversarial.hinge_generator(self.judged(drawn))
        return Answers(answers, losses=losses, watched={"contour_critic": critic})

    def teach_critic(self, truth: Tensor, drawn: Tensor, optimiser: torch.optim.Optimizer) -> Tensor:
        self.critic.requires_grad_(True)
        total = adversarial.hinge_critic(self.judged(truth), self.judged(drawn))
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        self.critic.requires_grad_(False)
        return total.detach()

    def judged(self, contours: Tensor) -> Tensor:
        with autocast(contours.device):
            scores: Tensor = self.critic(contours)[-1]
        return scores.float()

    @torch.no_grad()
    def drawn(self, net: nn.Module, image: Tensor, mask: Tensor, sketch: Tensor | None) -> Tensor:
        """The completed contours as a picture of dark lines."""
        assert isinstance(net, ForegroundAware)
        given = net.given(image, mask, sketch)
        return 1 - joined(net.contours(image, mask, given)[1], given, mask).expand_as(image)


class ForegroundAwareRecipe(InpaintRecipe):
    def __init__(
        self,
        config: InpaintConfig,
        curriculum: Curriculum,
        pictures: Pictures,
        device: torch.device,
        features: nn.Module | None,
    ) -> None:
        super().__init__("foreground-aware", config, pictures, device, features)
        self.lessons = ContourLessons(curriculum, self.net)
        self.modules["contour_critic"] = self.lessons.critic
        self.optimisers["contour_critic"] = self.prepared(self.lessons.critic, config.critic_rate)

    def answers(self, truth: Tensor, mask: Tensor, sketch: Tensor | None, step: int) -> Answers:
        return self.lessons.teach(truth, mask, sketch, step, self.optimisers["contour_critic"])

    def drawn(self, net: nn.Module, image: Tensor, mask: Tensor, sketch: Tensor | None) -> list[Tensor]:
        return [self.lessons.drawn(net, image, mask, sketch)]


def make_recipe(
    config: dict[str, Any], data: Path, cache: Path, device: torch.device, features: Path | None = None
) -> ForegroundAwareRecipe:
    asked = dict(config["recipe"])
    curriculum = Curriculum(**asked.pop("contours", {}))
    recipe = read_config(asked)
    return ForegroundAwareRecipe(recipe, curriculum, *materials(recipe, data, cache, device, features))
