"""Public checkpoints of PartialConv, as the common PyTorch re-implementation saves them."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from models.checkpoints.importer import Importer, State, register, strip_prefix

LAYER = re.compile(r"(enc|dec)_(\d+)\.(?:conv\.(input_conv|mask_conv)\.(?=weight|bias)|bn\.)(\w+)")


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.")
    levels = max((int(match[2]) for key in state if (match := LAYER.fullmatch(key))), default=7)
    first = state["enc_1.conv.input_conv.weight"]
    ours: State = {}
    for key, value in state.items():
        match = LAYER.fullmatch(key)
        if match is None:
            ours[key] = value  # has no place here, and is reported
            continue
        side, number, part, leaf = match.groups()
        if part == "mask_conv":
            continue  # all ones, by definition
        index = int(number) - 1 if side == "enc" else levels - int(number)
        block = f"{'encoder' if side == 'enc' else 'decoder'}.{index}"
        if part is None:
            ours[f"{block}.norm.{leaf}"] = value
        elif leaf == "bias":
            ours[f"{block}.conv.bias"] = value
        else:
            # The public code divides by the sum over the mask window, ours by its mean.
            ours[f"{block}.conv.conv.weight"] = value / value[0].numel()
    return {"width": first.shape[0], "levels": levels}, ours


def to_public(net: nn.Module) -> State:
    own = net.state_dict()
    levels = len(net.encoder)  # type: ignore[arg-type]
    public: State = {}
    for key, value in own.items():
        side, index, rest = key.split(".", 2)
        number = int(index) + 1 if side == "encoder" else levels - int(index)
        block = f"{side[:3]}_{number}"
        if rest.startswith("norm."):
            public[f"{block}.bn.{rest[5:]}"] = value
        elif rest == "conv.bias":
            public[f"{block}.conv.input_conv.bias"] = value
        else:
            public[f"{block}.conv.input_conv.weight"] = value * value[0].numel()
            public[f"{block}.conv.mask_conv.weight"] = torch.ones_like(value)
    return public


register(
    Importer(
        "partial-conv",
        recognises=lambda state: any(key.endswith("enc_1.conv.input_conv.weight") for key in state),
        convert=convert,
        to_public=to_public,
    )
)
