"""Public checkpoints of PEN-Net, whose layers count levels from 1, the shallowest."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from models.checkpoints.importer import Importer, State, register, strip_prefix

# Theirs, with the level and what follows it; ours, of the level counted from 0.
LISTS = {
    re.compile(r"dw_conv(\d+)\.0\.(\w+)"): "encoder.{}.{}",
    re.compile(r"at_conv(\d+)\.conv0(\d)\.0\.(\w+)"): "fusions.{}.views.{}.{}",
    re.compile(r"up_conv(\d+)\.0\.(\w+)"): "decoder.{}.{}",
    re.compile(r"torgb(\d+)\.0\.(\w+)"): "heads.{}.{}",
}
PUBLIC = {
    "encoder": "dw_conv{:02}.0.{}",
    "decoder": "up_conv{:02}.0.{}",
    "heads": "torgb{}.0.{}",
}


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.", "netG.", "generator.")
    arguments = {
        "width": state["dw_conv01.0.weight"].shape[0],
        "depth": sum(bool(re.fullmatch(r"dw_conv\d+\.0\.weight", key)) for key in state),
    }
    return arguments, {our_key(key): value for key, value in state.items()}


def our_key(key: str) -> str:
    for pattern, ours in LISTS.items():
        if match := pattern.fullmatch(key):
            level, *rest = match.groups()
            return ours.format(int(level) - 1, *rest)
    return re.sub(r"^decoder\.([02])\.", r"last.\1.", key)


def public_key(key: str) -> str:
    part, number, rest = key.split(".", 2)
    if part == "last":
        return f"decoder.{number}.{rest}"
    if part == "fusions":
        _, view, leaf = rest.split(".")
        return f"at_conv{int(number) + 1:02}.conv0{view}.0.{leaf}"
    return PUBLIC[part].format(int(number) + 1, rest)


def to_public(net: nn.Module) -> State:
    return {public_key(key): value for key, value in net.state_dict().items()}


register(
    Importer(
        "pen-net",
        recognises=lambda state: any(key.endswith("at_conv01.conv00.0.weight") for key in state),
        convert=convert,
        to_public=to_public,
    )
)
