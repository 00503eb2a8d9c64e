"""How guided-patchmatch's last step learns: from proposals made ahead, with the losses of any inpainter."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from models.inpainting.guided_patchmatch import GuidedPatchMatch
from models.training.errors import TrainingError
from models.training.inpaint import InpaintRecipe, Proposal
from models.training.proposals import Proposals

SEED = 1


class FinishRecipe(InpaintRecipe):
    def begin(self) -> None:
        if not isinstance(self.net, GuidedPatchMatch):
            raise TrainingError("[recipe] proposals are for guided-patchmatch")
        config, cache = self.config, self.pictures.file.parent
        self.proposals = Proposals(
            self.net, self.crops, cache, config.proposals, config.side, config.sketches, SEED
        )

    def batch(self, step: int, rng: np.random.Generator) -> Any:
        return self.proposals.take(rng, self.config.batch)

    def prepare(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None, Proposal | None]:
        colours, mask = batch.split([9, 1], 1)
        truth, drawn, copied = (each.contiguous() for each in (colours.float() / 255).chunk(3, 1))
        return truth, mask.float().contiguous(), None, (drawn, copied)
