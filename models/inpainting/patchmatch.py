"""patchmatch: completion from the picture's own patches, without any weights.

Wexler, Shechtman and Irani's space-time completion with Barnes' PatchMatch for the search: from a picture so
small that the hole is a few pixels, find for each incomplete patch the most similar complete one, let the
patches vote for the missing pixels, repeat, and carry the field to twice the size. Ours: everything is
vectorised over the hole's pixels, the first guess is a smooth one, and the last vote is a sharp one.

Deterministic for a seed; each sample is computed by itself, so nothing depends on what shares its batch. A
sketch is not used.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.patch_field import PatchField, patches_of, spread
from models.layers.smooth import blur, smooth_fill
from models.network import Network, SizeRule
from models.registry import architecture

SMALLEST = 24  # no level is smaller than this
GUIDED_LEVELS = 3  # a guide is trusted at a quarter of the resolution
# A guide is softer than the picture, and patches that look like it would be the softest ones: compared in a
# picture that is soft as well, any will do whose colours are right. The guide is looked at more than once.
SOFT, LOOKS = 1.25, 2
THICK = 4  # the coarsest level's holes are at most so many pixels from their rim to their middle


@architecture(
    "patchmatch",
    task="inpaint",
    paper="PatchMatch (SIGGRAPH 2009), Space-time completion of video (PAMI 2007)",
    exportable=False,
    chooses=True,
)
class PatchMatch(Network):
    sides = SizeRule()
    window = 512

    def __init__(self, size: int = 7, rounds: int = 6, searches: int = 5, seed: int = 0) -> None:
        super().__init__()
        self.size, self.rounds, self.searches, self.seed = size, rounds, searches, seed

    @torch.no_grad()
    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        pairs = zip(image.float(), mask[:, 0] > 0.5, strict=True)
        return torch.stack([self.complete(picture, hole) for picture, hole in pairs]).to(image.dtype)

    def complete(
        self, image: Tensor, hole: Tensor, guide: Tensor | None = None, guided: int = GUIDED_LEVELS
    ) -> Tensor:
        """One picture (C, H, W) with its hole (H, W) filled; a `guide` says roughly what should be there.

        With a guide the search begins where the guide is still sharp, `guided` levels up, and looks for
        patches like it.
        """
        if not hole.any():
            return image
        generator = torch.Generator().manual_seed(self.seed)
        levels = pyramid(image, hole)
        if guide is not None:
            levels = levels[:guided]
            guide = torch.where(hole, guide, image)
        answer, field = first_guess(*levels[-1], guide), None
        for depth in range(len(levels) - 1, -1, -1):
            known, gone = levels[depth]
            begun = PatchField(gone, self.size, generator)
            if field is not None:
                grown = F.interpolate(answer[None], gone.shape, mode="bilinear", align_corners=False)[0]
                answer = torch.where(gone, grown, known)
            if not begun.possible:
                # Nothing to copy from at this size; the guess stands.
                answer, field = first_guess(known, gone, guide), None
                continue
            if field is None:
                begun.scatter()
                answer = first_guess(known, gone, guide)
            else:
                begun.inherit(field)
            field = begun
            # Coarse levels decide what goes where and are cheap; fine ones only follow.
            rounds = max(1, self.rounds - 2 * (len(levels) - 1 - depth)) if depth else 1
            looks = min(LOOKS, rounds - 1) if guide is not None and depth == len(levels) - 1 else 0
            sigma = 0.0 if guide is None else SOFT
            answer = self.refine(answer, gone, field, rounds, looks, sigma, last=depth == 0)
        return answer

    def refine(
        self,
        answer: Tensor,
        gone: Tensor,
        field: PatchField,
        rounds: int,
        looks: int = 0,
        sigma: float = 0.0,
        last: bool = False,
    ) -> Tensor:
        """So many rounds of search and vote, the first `looks` of search alone.

        With a `sigma`, patches are compared in a picture blurred by so many pixels.
        """
        pixels = gone.flatten().nonzero().flatten()
        # Patches near the rim know more; those deep inside have only been guessed.
        trust = torch.pow(1.3, -depth_of(gone).flatten()[field.targets])
        few = rounds == 1
        jumps, searches = ((1,), 1) if few else ((4, 1), self.searches)
        for turn in range(rounds):
            seen = blur(answer[None], sigma)[0] if sigma else answer
            field.improve(patches_of(seen, self.size), jumps, searches)
            if turn < looks:
                continue
            filled = field.vote(answer, pixels, trust, sharp=last and turn == rounds - 1)
            answer = answer.flatten(1).index_copy(1, pixels, filled).view_as(answer)
        return answer


def first_guess(known: Tensor, gone: Tensor, guide: Tensor | None) -> Tensor:
    """What a level's hole holds before the first search: the guide at its size, or a smooth fill."""
    if guide is None:
        return smooth_fill(known[None], gone[None, None].to(known.dtype))[0]
    return torch.where(gone, F.interpolate(guide[None], gone.shape, mode="area")[0], known)


def pyramid(image: Tensor, hole: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pictures and holes from full size down; only known pixels make smaller ones."""
    levels = [(torch.where(hole, 0.0, image), hole)]
    while min(levels[-1][1].shape) >= 2 * SMALLEST and depth_of(levels[-1][1], THICK + 1).max() > THICK:
        levels.append(halve(*levels[-1]))
    return levels


def halve(image: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
    known = (~hole)[None, None].float()
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    total = F.avg_pool2d(image[None] * known, 2, ceil_mode=True)
    small = (total / weight.clamp(min=1e-6))[0]
    gone = weight[0, 0] < 0.5
    return torch.where(gone, 0.0, small), gone


def depth_of(hole: Tensor, most: int = 33) -> Tensor:
    """(H, W): how many steps each hole pixel lies from the rim, at most so many."""
    depth, left = hole.float(), hole
    for _ in range(most - 1):
        left = ~spread(~left)
        if not left.any():
            break
        depth += left
    return depth
