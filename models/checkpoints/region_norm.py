"""Public checkpoints of Region Normalization; the discriminator beside the generator is left out."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from models.checkpoints.importer import Importer, State, register, renamed, strip_prefix, swapped

PARTS = {"found": "sa.conv1", "gamma": "sa.gamma_conv", "beta": "sa.beta_conv"}
DECODER_NORMS = (2, 6)


def modules(blocks: int) -> dict[str, str]:
    """Our module's name -> the public one's."""
    names = {}
    for index in range(3):
        names[f"encoder.{index}.conv"] = f"encoder_conv{index + 1}"
        names[f"encoder.{index}.norm"] = f"encoder_in{index + 1}"
    norms = [f"middle.{block}.conv_block.{place}" for block in range(blocks) for place in (2, 6)]
    norms += [f"decoder.{place}" for place in DECODER_NORMS]
    return names | {f"{norm}.{own}": f"{norm}.{theirs}" for norm in norms for own, theirs in PARTS.items()}


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.generator.", "generator.", "module.")
    state = strip_prefix(state, "module.")
    blocks = sum(bool(re.fullmatch(r"middle\.\d+\.conv_block\.1\.weight", key)) for key in state)
    arguments = {"width": state["encoder_conv1.weight"].shape[0], "blocks": blocks}
    return arguments, renamed(state, swapped(modules(blocks)))


def to_public(net: nn.Module) -> State:
    names = modules(len(net.middle))  # type: ignore[arg-type]
    public = renamed(dict(net.state_dict()), names)
    return {f"generator.module.{key}": value for key, value in public.items()}


register(
    Importer(
        "region-norm",
        recognises=lambda state: any(key.endswith("encoder_in1.foreground_gamma") for key in state),
        convert=convert,
        to_public=to_public,
    )
)
