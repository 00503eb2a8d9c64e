"""Public checkpoints of AOT-GAN: a plain state dict, whose branches carry their dilation in their names."""

from __future__ import annotations

import re
from typing import Any

from models.checkpoints.importer import Importer, State, register, strip_prefix

BRANCH = re.compile(r"middle\.(\d+)\.block(\d\d)\.1\.(\w+)")
# The public layers stand behind a layer of padding; in the encoder the first does.
ENCODER = {"1": "0", "3": "2", "5": "4"}


def convert(state: State, rates: tuple[int, ...] | None = None) -> tuple[dict[str, Any], State]:
    """`rates` are no part of the file: they double from branch to branch unless they are given."""
    state = strip_prefix(state, "module.", "netG.", "generator.")
    found = [match for key in state if (match := BRANCH.fullmatch(key))]
    blocks = 1 + max((int(match[1]) for match in found), default=-1)
    branches = 1 + max((int(match[2]) for match in found), default=-1)
    arguments = {
        "width": state["encoder.1.weight"].shape[0],
        "blocks": blocks,
        "rates": list(rates or (2**branch for branch in range(branches))),
    }
    return arguments, {our_key(key): value for key, value in state.items()}


def our_key(key: str) -> str:
    if match := BRANCH.fullmatch(key):
        return f"middle.{match[1]}.branches.{int(match[2])}.{match[3]}"
    if match := re.fullmatch(r"middle\.(\d+)\.(fuse|gate)\.1\.(\w+)", key):
        return f"middle.{match[1]}.{match[2]}.{match[3]}"
    if (match := re.fullmatch(r"encoder\.(\d+)\.(\w+)", key)) and match[1] in ENCODER:
        return f"encoder.{ENCODER[match[1]]}.{match[2]}"
    return key


def public_key(key: str) -> str:
    if match := re.fullmatch(r"middle\.(\d+)\.branches\.(\d+)\.(\w+)", key):
        return f"middle.{match[1]}.block{int(match[2]):02}.1.{match[3]}"
    if match := re.fullmatch(r"middle\.(\d+)\.(fuse|gate)\.(\w+)", key):
        return f"middle.{match[1]}.{match[2]}.1.{match[3]}"
    if match := re.fullmatch(r"encoder\.(\d+)\.(\w+)", key):
        return f"encoder.{int(match[1]) + 1}.{match[2]}"
    return key


register(
    Importer(
        "aot-gan",
        recognises=lambda state: any(key.endswith("middle.0.block00.1.weight") for key in state),
        convert=convert,
        to_public=lambda net: {public_key(key): value for key, value in net.state_dict().items()},
    )
)
