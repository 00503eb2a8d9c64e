"""PatchMatch (Barnes et al., 2009): for each patch with something missing, a similar patch that is known.

The field is kept for the pixels whose patch overlaps the hole, as a flat list, so that time and memory go
with the hole and not with the picture. Propagation and random search are done for all of them at once, with
jumps instead of a scan, which is what makes it run on a GPU as on a CPU.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CENTRAL = 0.4  # pixels: how near a patch's middle a pixel must lie to count in the last, sharp vote
NOTHING = 1e-6  # what counts for less need not be looked up


def patches_of(image: Tensor, size: int) -> Tensor:
    """(H * W, n): the patch round each pixel, borders repeated.

    Every other pixel of a patch, like a chessboard's black fields: they tell patches apart nearly as well as
    all of them, in half the time. Written field by field: whole patches would need four times the memory.
    """
    reach = size // 2
    channels, height, width = image.shape
    padded = F.pad(image[None], (reach,) * 4, mode="replicate")[0].permute(1, 2, 0).contiguous()
    black = range(0, size * size, 2)
    patches = image.new_empty(height, width, len(black), channels)
    for number, field in enumerate(black):
        down, across = divmod(field, size)
        patches[:, :, number] = padded[down : down + height, across : across + width]
    return patches.view(height * width, -1)


def spread(mask: Tensor, reach: int = 1) -> Tensor:
    """(H, W) boolean: within `reach` (in both axes) of a set pixel."""
    for _ in range(reach):
        wide = F.pad(mask, (1, 1, 1, 1))  # on booleans twenty times as fast as pooling floats
        mask = wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:]
        mask = mask[:-2] | mask[1:-1] | mask[2:]
    return mask


class PatchField:
    """Where each target patch of one picture finds its like.

    `targets` and `source` are flat pixel numbers; `cost` is the squared distance of the patches. Only
    patches that are fully known and fully inside the picture are sources.
    """

    def __init__(self, hole: Tensor, size: int, generator: torch.Generator) -> None:
        self.height, self.width = hole.shape
        self.size, self.reach = size, size // 2
        self.generator = generator
        device = hole.device
        usable = ~spread(hole, self.reach)
        inside = torch.zeros_like(hole)
        inside[self.reach : self.height - self.reach, self.reach : self.width - self.reach] = True
        self.usable = (usable & inside).flatten()
        self.sources = self.usable.nonzero().flatten()
        self.targets = spread(hole, self.reach).flatten().nonzero().flatten()
        self.number = torch.full((self.height * self.width,), -1, device=device)
        self.number[self.targets] = torch.arange(len(self.targets), device=device)
        self.cost = torch.full((len(self.targets),), torch.inf, device=device)
        self.source = self.targets

    @property
    def possible(self) -> bool:
        return len(self.sources) > 0

    def random(self, *shape: int) -> Tensor:
        # Drawn on the CPU, so that every device sees the same numbers.
        return torch.rand(*shape, generator=self.generator).to(self.targets.device)

    def scatter(self) -> None:
        """A random source for each target."""
        pick = (self.random(len(self.targets)) * len(self.sources)).long()
        self.source = self.sources[pick.clamp_(max=len(self.sources) - 1)]

    def inherit(self, coarse: PatchField) -> None:
        """Begin where the field of half the size ended; what does not fit begins at random."""
        self.scatter()
        row, column = self.targets // self.width, self.targets % self.width
        up = (row // 2).clamp(max=coarse.height - 1) * coarse.width + (column // 2).clamp(
            max=coarse.width - 1
        )
        number = coarse.number[up]
        found = coarse.source[number.clamp(min=0)]
        place = (found // coarse.width * 2 + row % 2) * self.width + found % coarse.width * 2 + column % 2
        place = place.clamp(max=self.height * self.width - 1)
        self.source = torch.where((number >= 0) & self.usable[place], place, self.source)

    def improve(self, patches: Tensor, jumps: tuple[int, ...], searches: int) -> None:
        """One round of propagation and random search against the picture that `patches` came from."""
        wanted = patches[self.targets]
        self.cost = distance(wanted, patches[self.source])
        row, column = self.targets // self.width, self.targets % self.width
        for jump in jumps:
            for down, across in ((jump, 0), (-jump, 0), (0, jump), (0, -jump)):
                near_row, near_column = row - down, column - across
                inside = self.within(near_row, near_column)
                near = (near_row * self.width + near_column).clamp(0, self.height * self.width - 1)
                number = torch.where(inside, self.number[near], -1)
                source = self.source[number.clamp(min=0)]
                self.offer(
                    wanted,
                    patches,
                    source // self.width + down,
                    source % self.width + across,
                    number >= 0,
                )
        radius = float(max(self.height, self.width))
        for _ in range(searches):
            shift = (self.random(2, len(self.targets)) * 2 - 1) * radius
            source_row = self.source // self.width + shift[0].round().long()
            source_column = self.source % self.width + shift[1].round().long()
            self.offer(wanted, patches, source_row, source_column, None)
            radius = max(1.0, radius / 3)

    def within(self, row: Tensor, column: Tensor) -> Tensor:
        return (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)

    def offer(self, wanted: Tensor, patches: Tensor, row: Tensor, column: Tensor, ok: Tensor | None) -> None:
        """Take the sources at (row, column) where they are allowed and better."""
        inside = self.within(row, column)
        place = (row * self.width + column).clamp(0, self.height * self.width - 1)
        allowed = inside & self.usable[place] & (place != self.source)
        if ok is not None:
            allowed &= ok
        at = allowed.nonzero().flatten()
        cost = distance(wanted[at], patches[place[at]])
        better = cost < self.cost[at]
        at, cost = at[better], cost[better]
        self.cost[at] = cost
        self.source = self.source.index_put((at,), place[at])

    def vote(self, image: Tensor, pixels: Tensor, trust: Tensor, sharp: bool) -> Tensor:
        """(C, n): what the patches over each of `pixels` propose for it, weighted by how well they fit.

        `sharp` lets patches count by how central the pixel lies in them as well, so that a fill is not an
        average of many neighbours: the difference between texture and blur.
        """
        flat = image.flatten(1)
        scale = torch.quantile(self.cost[:1_000_000], 0.75).clamp(min=1e-6) * (0.25 if sharp else 1.0)
        weight = torch.exp(-self.cost / (2 * scale)) * trust + 1e-12
        row, column = pixels // self.width, pixels % self.width
        total = torch.zeros(image.shape[0], len(pixels), device=image.device)
        weights = torch.zeros(len(pixels), device=image.device)
        for down in range(-self.reach, self.reach + 1):
            for across in range(-self.reach, self.reach + 1):
                central = math.exp(-(down**2 + across**2) / (2 * CENTRAL**2)) if sharp else 1.0
                if central < NOTHING:
                    continue
                inside = self.within(row + down, column + across)
                near = (pixels + down * self.width + across).clamp(0, self.height * self.width - 1)
                number = torch.where(inside, self.number[near], -1)
                share = torch.where(number >= 0, weight[number.clamp(min=0)], 0) * central
                proposed = self.source[number.clamp(min=0)] - down * self.width - across
                total += flat[:, proposed.clamp(0, flat.shape[1] - 1)] * share
                weights += share
        return total / weights.clamp(min=1e-20)


def distance(left: Tensor, right: Tensor) -> Tensor:
    return (left - right).square_().sum(1)
