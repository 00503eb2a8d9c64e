"""spandrel: upscalers of some forty more architectures, by the library of that name (`retouch[spandrel]`).

What a network is its tensors tell: until they are loaded this is a shell that knows the factor. How far one
of them looks is not known, and 32 pixels are taken; some look farther, and a seam may show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.registry import architecture
from models.upscaling.fixed import FixedFactor


class NotHere(Exception):
    """The library cannot be had; the message says what is missing."""


def described(state: Mapping[str, Any]) -> Any:
    """What the library says of a state, with the network in it; it raises where it does not know it."""
    try:
        from spandrel import ModelLoader
    except ImportError as error:
        raise NotHere(f"retouch[spandrel], which knows more, is not installed whole: {error}") from error
    except RuntimeError as error:  # as a torchvision does that was built for another torch
        build = f"this build of torch, {torch.__version__}"
        raise NotHere(f"spandrel wants a torchvision that was made for {build}: {error}") from error
    return ModelLoader().load_from_state_dict(dict(state))


@architecture("spandrel", task="upscale", paper="its architectures have their own", exportable=False)
class Spandrel(FixedFactor):
    receptive_field = 32

    def __init__(self, factor: int = 4) -> None:
        super().__init__(factor)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        self.described = described(state_dict)
        self.net = self.described.model

    def features(self, image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            return torch.cat([self.described(sample[None]) for sample in image.float()])
