"""Losses of the generator and its critic. Scores may have any shape; each of their values counts alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def hinge_generator(fake: Tensor) -> Tensor:
    return -fake.mean()


def non_saturating_critic(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def non_saturating_generator(fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def r1(scores: Tensor, pictures: Tensor) -> Tensor:
    """Squared gradient of the critic at real pictures."""
    (gradient,) = torch.autograd.grad(scores.sum(), pictures, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mask: Tensor, generator: torch.Generator
) -> Tensor:
    """WGAN-GP between a real picture and its fill, counted in the hole alone (DeepFill v1)."""
    share = torch.rand(real.shape[0], 1, 1, 1, generator=generator).to(real.device)
    between = (real + share * (fake - real)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((gradient * mask).flatten(1).norm(dim=1) - 1).square().mean()


def feature_matching(ours: list[Tensor], truth: list[Tensor]) -> Tensor:
    """Squared distance of the critic's own features (LaMa)."""
    pairs = zip(ours, truth, strict=True)
    return torch.stack([F.mse_loss(a.float(), b.detach().float()) for a, b in pairs]).mean()


CRITICS = {"hinge": hinge_critic, "non-saturating": non_saturating_critic, "wasserstein": wasserstein_critic}
GENERATORS = {
    "hinge": hinge_generator,
    "non-saturating": non_saturating_generator,
    "wasserstein": hinge_generator,
}
