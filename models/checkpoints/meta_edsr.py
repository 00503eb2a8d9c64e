"""Public checkpoints of Meta-SR on EDSR-baseline, in the layout of LIIF's code."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from models.checkpoints.importer import Importer, State, register, strip_prefix

BLOCK = re.compile(r"encoder\.body\.(\d+)\.body\.([02])\.(\w+)")
TAIL = re.compile(r"encoder\.body\.(\d+)\.(\w+)")
UNUSED = ("encoder.sub_mean.", "encoder.add_mean.")  # EDSR's own mean shifts, which this code never calls


PARTS = {
    "encoder.head.0.": "head.",
    "imnet.layers.0.": "upscale.enter.",
    "imnet.layers.2.": "upscale.leave.",
}


def recognises(state: State) -> bool:
    # LIIF's own decoder has these keys too, but takes features, and not three numbers.
    bare = strip_prefix(state, "module.", "model.")
    return (
        "encoder.head.0.weight" in bare and bare.get("imnet.layers.0.weight", torch.empty(0, 0)).shape[1] == 3
    )


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.", "model.")
    blocks = 1 + max((int(match[1]) for key in state if (match := BLOCK.fullmatch(key))), default=-1)
    arguments = {
        "channels": state["encoder.head.0.weight"].shape[0],
        "blocks": blocks,
        "hidden": state["imnet.layers.0.weight"].shape[0],
    }
    ours = {our_key(key, blocks): value for key, value in state.items() if not key.startswith(UNUSED)}
    return arguments, ours


def our_key(key: str, blocks: int) -> str:
    if match := BLOCK.fullmatch(key):
        return f"body.{match[1]}.{'first' if match[2] == '0' else 'second'}.{match[3]}"
    if (match := TAIL.fullmatch(key)) and int(match[1]) == blocks:
        return f"tail.{match[2]}"
    for theirs, own in PARTS.items():
        if key.startswith(theirs):
            return own + key[len(theirs) :]
    return key


def to_public(net: nn.Module) -> State:
    blocks = len(net.body)  # type: ignore[arg-type]
    public: State = {}
    for key, value in net.state_dict().items():
        if match := re.fullmatch(r"body\.(\d+)\.(first|second)\.(\w+)", key):
            number, part, leaf = match.groups()
            public[f"encoder.body.{number}.body.{0 if part == 'first' else 2}.{leaf}"] = value
        elif key.startswith("tail."):
            public[f"encoder.body.{blocks}.{key[5:]}"] = value
        else:
            theirs, own = next(pair for pair in PARTS.items() if key.startswith(pair[1]))
            public[theirs + key[len(own) :]] = value
    for name in UNUSED:
        public[f"{name}weight"] = torch.eye(3)[..., None, None]
        public[f"{name}bias"] = torch.zeros(3)
    return public


register(
    Importer(
        "meta-edsr",
        recognises=recognises,
        convert=convert,
        to_public=to_public,
    )
)
