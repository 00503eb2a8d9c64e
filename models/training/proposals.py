"""What guided-patchmatch's last step learns from: its own drawings and copies, made once and kept.

PatchMatch takes longer than a step of training, so a number of samples is made ahead, in one file that a
later run finds again and goes on with. Mirrored and turned at random they serve many times.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.inpainting.guided_patchmatch import COARSE, FINE, GuidedPatchMatch
from models.inpainting.patchmatch import GUIDED_LEVELS, LOOKS, SOFT
from models.training.crops import Crops
from models.training.masks import random_mask
from models.training.sketches import drop, edges

PLANES = 10  # truth, drawing and copy in colour, and the hole, which is 1
TOGETHER = 8
SMALLER = 4  # every so many groups are drawn at half size, as in large pictures


class Proposals:
    def __init__(
        self,
        net: GuidedPatchMatch,
        crops: Crops,
        cache: Path,
        count: int,
        side: int,
        sketches: float,
        seed: int,
    ) -> None:
        settings = (crops.shapes.tolist(), side, sketches, seed, SOFT, LOOKS, GUIDED_LEVELS, FINE, COARSE)
        digest = hashlib.sha256(repr(settings).encode())
        for key, value in net.state_dict().items():
            if not key.startswith("finish."):  # which is what learns from them
                digest.update(value.cpu().numpy().tobytes())
        self.side, self.count = side, count // TOGETHER * TOGETHER
        self.file = cache / f"{digest.hexdigest()[:16]}.proposals"
        self._each = PLANES * side * side
        self._make(net, crops, sketches, seed)
        size = self.count * self._each
        kept = torch.from_file(str(self.file), size=size, dtype=torch.uint8)
        self.values = kept.view(self.count, PLANES, side, side).to(crops.device)

    def _make(self, net: GuidedPatchMatch, crops: Crops, sketches: float, seed: int) -> None:
        group = TOGETHER * self._each
        done = self.file.stat().st_size // group if self.file.exists() else 0
        with self.file.open("ab") as out:
            out.truncate(done * group)  # what was cut off in the middle is made again
            for number in range(done, self.count // TOGETHER):
                made = propose(net, crops, self.side, sketches, seed, number)
                out.write(made.cpu().numpy().tobytes())

    def take(self, rng: np.random.Generator, count: int) -> Tensor:
        """(count, 10, side, side) bytes, each mirrored or turned."""
        chosen = self.values[torch.from_numpy(rng.integers(self.count, size=count))]
        return torch.stack([turned(each, rng) for each in chosen])


@torch.inference_mode()
def propose(
    net: GuidedPatchMatch, crops: Crops, side: int, sketches: float, seed: int, number: int
) -> Tensor:
    rng = np.random.default_rng((seed, number))
    chance = torch.Generator().manual_seed(number)
    truth = crops.scenes(rng, TOGETHER, side).float() / 255
    masks = np.stack([random_mask(rng, side, side) for _ in range(TOGETHER)])[:, None]
    mask = torch.from_numpy(masks).to(crops.device).float()
    sketch = drop(edges(truth), sketches, chance)
    factor = 2.0 if number % SMALLER == 0 else 1.0
    guide, copied = net.proposed(truth * (1 - mask), mask, sketch, factor)
    guide, copied = (torch.where(mask > 0.5, each, truth) for each in (guide, copied))
    colours = torch.cat([truth, guide, copied], 1).clamp(0, 1) * 255 + 0.5
    return torch.cat([colours.to(torch.uint8), mask.to(torch.uint8)], 1)


def turned(planes: Tensor, rng: np.random.Generator) -> Tensor:
    upside, mirrored, sideways = rng.random(3) < 0.5
    axes = [axis for axis, wanted in ((-2, upside), (-1, mirrored)) if wanted]
    planes = planes.flip(axes) if axes else planes
    return planes.mT if sideways else planes
