"""Public checkpoints of Globally and Locally Consistent Image Completion, in three layouts.

The official Torch7 files after conversion (numbers alone), otenim's (conv1, bn1), and OpenMMLab's, which
works on blue, green, red in [-1, 1]: its first and last layers are brought to our order and scale. The first
two keep their mean colour outside the state; the option `mean` takes another than the best known file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from models.checkpoints.importer import Importer, State, register, renamed, strip_prefix, swapped
from models.inpainting.glcic import Layout

BLOCKS = 16
TRANSPOSED = (13, 15)
MMLAB = [
    *(f"encoder.enc{number}" for number in range(1, 7)),
    *(f"dilation_neck.dilation_convs.{number}" for number in range(4)),
    *(f"decoder.dec{number}" for number in range(1, 7)),
]
PREFIXES = {"official": "", "relu-first": "", "openmmlab": "generator."}


def modules(layout: Layout) -> dict[str, str]:
    """Our module's name -> the public one's."""
    match layout:
        case "official":
            pairs = [(f"{index}.0", f"{index}.1") for index in range(BLOCKS)]
            last = "16"
        case "relu-first":
            numbers = range(1, BLOCKS + 1)
            pairs = [(f"{'de' * (n in TRANSPOSED)}conv{n}", f"bn{n}") for n in numbers]
            last = "conv17"
        case "openmmlab":
            pairs = [(f"{name}.conv", f"{name}.bn") for name in MMLAB]
            last = "decoder.dec7.conv"
    names = {"leave": last}
    for index, (conv, norm) in enumerate(pairs):
        names |= {f"blocks.{index}.conv": conv, f"blocks.{index}.norm": norm}
    return names


def layout_of(state: State) -> Layout | None:
    layouts: tuple[Layout, ...] = ("official", "relu-first", "openmmlab")
    for layout in layouts:
        names = modules(layout)
        if all(f"{names[own]}.weight" in state for own in ("blocks.0.conv", "blocks.14.conv", "leave")):
            return layout
    return None


def inside(state: State) -> State:
    return strip_prefix(strip_prefix(state, "module."), "generator.")


def convert(state: State, mean: Sequence[float] | None = None) -> tuple[dict[str, Any], State]:
    state = inside(state)
    layout = layout_of(state) or "official"
    ours = renamed(state, swapped(modules(layout)))
    arguments: dict[str, Any] = {"width": ours["blocks.0.conv.weight"].shape[0], "layout": layout}
    if mean is not None:
        arguments["mean"] = list(mean)
    return arguments, rescaled(ours, inwards=True) if layout == "openmmlab" else ours


def rescaled(state: State, inwards: bool) -> State:
    """From blue, green, red in [-1, 1] to our order and scale, or the other way round."""
    first, last, bias = (state[key] for key in ("blocks.0.conv.weight", "leave.weight", "leave.bias"))
    factor = 2.0 if inwards else 0.5
    return state | {
        "blocks.0.conv.weight": torch.cat([first[:, :3].flip(1) * factor, first[:, 3:]], 1),
        "leave.weight": last.flip(0) / factor,
        "leave.bias": ((bias + 1) / 2 if inwards else 2 * bias - 1).flip(0),
    }


def to_public(net: nn.Module) -> State:
    layout: Layout = net.layout  # type: ignore[assignment]
    state = dict(net.state_dict())
    if layout == "openmmlab":
        state = rescaled(state, inwards=False)
    public = renamed(state, modules(layout))
    return {PREFIXES[layout] + key: value for key, value in public.items()}


register(
    Importer(
        "glcic",
        recognises=lambda state: layout_of(inside(state)) is not None,
        convert=convert,
        to_public=to_public,
    )
)
