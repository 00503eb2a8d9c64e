"""VGG19's public weights for neural-patch: torchvision's file, or the first layers of style transfer's.

Beside them the network needs its drawing's, which are those of the model `structure` that ships.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from models import manifest
from models.checkpoints.importer import Importer, State, register
from models.features import TorchvisionVgg
from models.inpainting.neural_patch import LAYERS

# A convolution's number in torchvision's list, where pooling counts too, and in style transfer's.
TORCHVISION = dict(zip(LAYERS, (0, 2, 5, 7, 10, 12, 14, 16, 19, 21), strict=True))
STYLE = dict(zip(LAYERS, (2, 5, 9, 12, 16), strict=False))
DEEP, SHALLOW = ("relu4_2", "relu4_1"), ("relu3_1", "relu2_1")  # content, texture


def usual() -> State:
    """What a picture's colours become before torchvision's first layer."""
    net = TorchvisionVgg({})
    scale = 1 / net.deviation.flatten()
    return {"weight": torch.diag(scale)[..., None, None], "bias": -net.mean.flatten() * scale}


def convert(state: State) -> tuple[dict[str, Any], State]:
    numbers, prefix = (TORCHVISION, "features.") if "features.0.weight" in state else (STYLE, "")
    content, texture = DEEP if f"{prefix}{numbers.get(DEEP[0])}.weight" in state else SHALLOW
    wanted = LAYERS[: 1 + LAYERS.index(content)]
    colours = {leaf: state[f"0.{leaf}"] for leaf in ("weight", "bias") if f"0.{leaf}" in state}
    ours = {f"features.colours.{leaf}": value.float() for leaf, value in (colours or usual()).items()}
    for name in wanted:
        for leaf in ("weight", "bias"):
            ours[f"features.layers.{name}.{leaf}"] = state[f"{prefix}{numbers[name]}.{leaf}"].float()
    drawing = manifest.read_weights(manifest.installed()["structure"])
    ours |= {f"drawing.{key}": value for key, value in drawing.items()}
    width = state[f"{prefix}{numbers['relu1_1']}.weight"].shape[0]
    return {"content": content, "texture": texture, "width": width}, ours


def to_public(net: nn.Module) -> State:
    return {
        f"features.{TORCHVISION[name]}.{leaf}": value
        for key, value in net.state_dict().items()
        if key.startswith("features.layers.")
        for name, leaf in [key.removeprefix("features.layers.").split(".")]
    }


register(
    Importer(
        "neural-patch",
        recognises=lambda state: (
            "features.0.weight" in state
            or ("0.weight" in state and tuple(state["0.weight"].shape) == (3, 3, 1, 1))
        ),
        convert=convert,
        to_public=to_public,
    )
)
