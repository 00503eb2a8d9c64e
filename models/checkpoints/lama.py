"""Public checkpoints of LaMa: Lightning files, and the state of the TorchScript file big-lama.pt.

The public code counts all layers in one list: padding, the first convolution, the ones that halve, the
blocks, the concatenation, three layers for each doubling, padding, the last convolution.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from models.checkpoints.importer import Importer, State, register, strip_prefix
from models.inpainting.lama import LEVELS

PREFIXES = (
    "module.generator.model.",
    "model.generator.model.",
    "generator.model.",
    "model.model.",
    "module.model.",
    "model.",
)
FIRST_BLOCK = LEVELS + 2

# Inside a fast Fourier convolution: ours, then theirs.
PARTS = {
    "local_to_local.": "ffc.convl2l.",
    "local_to_global.": "ffc.convl2g.",
    "global_to_local.": "ffc.convg2l.",
    "global_to_global.enter.": "ffc.convg2g.conv1.0.",
    "global_to_global.norm.": "ffc.convg2g.conv1.1.",
    "global_to_global.fourier.conv.": "ffc.convg2g.fu.conv_layer.",
    "global_to_global.fourier.norm.": "ffc.convg2g.fu.bn.",
    "global_to_global.leave.": "ffc.convg2g.conv2.",
    "local_norm.": "bn_l.",
    "global_norm.": "bn_g.",
}
PLAIN = {"conv.": "ffc.convl2l.", "norm.": "bn_l."}


def names(blocks: int) -> dict[str, str]:
    """Our module's name -> the public one's, both up to the parameter."""

    def inside(own: str, public: str, parts: dict[str, str]) -> dict[str, str]:
        return {f"{own}.{ours}": f"{public}.{theirs}" for ours, theirs in parts.items()}

    answer = inside("enter", "1", PLAIN)
    for level in range(LEVELS - 1):
        answer |= inside(f"down.{level}", str(level + 2), PLAIN)
    answer |= inside("split", str(LEVELS + 1), PARTS)
    for block in range(blocks):
        for own, public in (("first", "conv1"), ("second", "conv2")):
            answer |= inside(f"blocks.{block}.{own}", f"{FIRST_BLOCK + block}.{public}", PARTS)
    concatenated = FIRST_BLOCK + blocks
    for level in range(LEVELS):
        number = concatenated + 1 + 3 * level
        answer |= {f"up.{level}.conv.": f"{number}.", f"up.{level}.norm.": f"{number + 1}."}
    answer["leave."] = f"{concatenated + 3 * LEVELS + 2}."
    return answer


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, *PREFIXES)
    numbers = [int(match[1]) for key in state if (match := re.match(r"(\d+)\.conv1\.", key))]
    blocks = max(numbers, default=FIRST_BLOCK - 1) - FIRST_BLOCK + 1
    local, everywhere = (state[f"{LEVELS + 1}.ffc.convl2{half}.weight"].shape[0] for half in "lg")
    arguments = {
        "width": state["1.ffc.convl2l.weight"].shape[0],
        "blocks": blocks,
        "global_share": everywhere / (local + everywhere),
    }
    renamed = {public: own for own, public in names(blocks).items()}
    ours: State = {}
    for key, value in state.items():
        module, dot, leaf = key.rpartition(".")
        ours[renamed.get(module + dot, module + dot) + leaf] = value
    return arguments, ours


def to_public(net: nn.Module) -> State:
    public = names(len(net.blocks))  # type: ignore[arg-type]
    answer: State = {}
    for key, value in net.state_dict().items():
        module, dot, leaf = key.rpartition(".")
        answer[f"generator.model.{public[module + dot]}{leaf}"] = value
    return answer


register(
    Importer(
        "lama",
        recognises=lambda state: any(
            key.endswith(".conv1.ffc.convg2g.fu.conv_layer.weight") for key in state
        ),
        convert=convert,
        to_public=to_public,
    )
)
