"""How guided-patchmatch's last step learns: from proposals made ahead, with the losses of any inpainter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.inpainting.guided_patchmatch import GuidedPatchMatch
from models.training.errors import TrainingError
from models.training.inpaint import InpaintConfig, InpaintRecipe, Proposal
from models.training.pictures import Pictures
from models.training.proposals import Proposals

SEED = 1


class FinishRecipe(InpaintRecipe):
    def __init__(
        self,
        architecture: str,
        config: InpaintConfig,
        pictures: Pictures,
        device: torch.device,
        features: nn.Module | None,
        cache: Path,
    ) -> None:
        super().__init__(architecture, config, pictures, device, features)
        self.cache = cache
        if not isinstance(self.net, GuidedPatchMatch):
            raise TrainingError("[recipe] proposals are for guided-patchmatch")

    def begin(self) -> None:
        assert isinstance(self.net, GuidedPatchMatch)
        config = self.config
        self.proposals = Proposals(
            self.net, self.crops, self.cache, config.proposals, config.side, config.sketches, SEED
        )

    def batch(self, step: int, rng: np.random.Generator) -> Any:
        return self.proposals.take(rng, self.config.batch)

    def prepare(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None, Proposal | None]:
        colours, mask = batch.split([9, 1], 1)
        truth, drawn, copied = (each.contiguous() for each in (colours.float() / 255).chunk(3, 1))
        return truth, mask.float().contiguous(), None, (drawn, copied)
