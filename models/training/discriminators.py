"""Critics: they see a picture in [-1, 1], its mask and its sketch, and answer with every layer's features.

The last features are the scores. Convolutions halve with kernel 5, as in DeepFill.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SEEN = 5  # colours, mask, sketch
MASK = 3  # its channel


def halving(widths: list[int]) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(before, after, 5, 2, 2) for before, after in pairwise(widths))


def features(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    answers = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.2)
        answers.append(x)
    return answers


class PatchCritic(nn.Module):
    """SN-PatchGAN (DeepFill v2): spectral norm, and every value of the last layer is a score."""

    def __init__(self, width: int = 64, layers: int = 6, seen: int = SEEN) -> None:
        super().__init__()
        widths = [seen, *(width * min(4, 2**layer) for layer in range(layers))]
        self.layers = nn.ModuleList(spectral_norm(layer) for layer in halving(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        return features(self.layers, x)


class GlobalLocalCritic(nn.Module):
    """One critic for the picture and one for a square of half its side round the hole (DeepFill v1).

    Free-form holes have no square of their own, so it lies round the hole's middle. The papers' dense layers
    tie a critic to one size; the mean over places frees it. No normalisation: the penalty on gradients, which
    this critic is made for, wants each sample judged by itself.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.whole = halving([SEEN, width, 2 * width, 4 * width, 4 * width])
        self.part = halving([SEEN, width, 2 * width, 4 * width, 8 * width])
        self.whole_score = nn.Linear(4 * width, 1)
        self.part_score = nn.Linear(8 * width, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        whole, part = features(self.whole, x), features(self.part, near_hole(x))
        scores = [self.whole_score(whole[-1].mean((2, 3))), self.part_score(part[-1].mean((2, 3)))]
        return [*whole, *part, torch.cat(scores, 1)]


def near_hole(x: Tensor) -> Tensor:
    """The square of half the sides whose middle is as near to the hole's as the picture's border allows."""
    hole = x[:, MASK].detach()
    rows, columns = window(hole.sum(2)), window(hole.sum(1))
    samples = torch.arange(x.shape[0], device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def window(profile: Tensor) -> Tensor:
    """(B, n / 2) places round the middle of each profile (B, n)."""
    length = profile.shape[1]
    places = torch.arange(length, device=profile.device)
    middle = (profile * places).sum(1) / profile.sum(1).clamp(min=1)
    first = (middle.round().long() - length // 4).clamp(0, length - length // 2)
    return first[:, None] + places[: length // 2]


CRITICS: dict[str, Callable[[int], nn.Module]] = {"patches": PatchCritic, "global-local": GlobalLocalCritic}
