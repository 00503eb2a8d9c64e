"""Public checkpoints of Meta-RDN: plain states of the authors' code, whose pictures count in 0..255."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from models.checkpoints.importer import Importer, State, register, strip_prefix

LAYER = re.compile(r"RDBs\.(\d+)\.convs\.(\d+)\.conv\.0\.(\w+)")
FUSION = re.compile(r"RDBs\.(\d+)\.LFF\.(\w+)")
NAMES = {
    "sub_mean": "take_mean",
    "add_mean": "give_mean",
    "SFENet1": "shallow",
    "SFENet2": "enter",
    "GFF.0": "fuse",
    "GFF.1": "exit",
    "P2W.meta_block.0": "upscale.enter",
    "P2W.meta_block.2": "upscale.leave",
}
LEVELS = 255  # the public network's white


def our_key(key: str) -> str:
    if layer := LAYER.fullmatch(key):
        return "blocks.{}.layers.{}.{}".format(*layer.groups())
    if fusion := FUSION.fullmatch(key):
        return "blocks.{}.fuse.{}".format(*fusion.groups())
    module, _, leaf = key.rpartition(".")
    return f"{NAMES[module]}.{leaf}" if module in NAMES else key


def public_key(key: str) -> str:
    if layer := re.fullmatch(r"blocks\.(\d+)\.layers\.(\d+)\.(\w+)", key):
        return "RDBs.{}.convs.{}.conv.0.{}".format(*layer.groups())
    if fusion := re.fullmatch(r"blocks\.(\d+)\.fuse\.(\w+)", key):
        return "RDBs.{}.LFF.{}".format(*fusion.groups())
    module, _, leaf = key.rpartition(".")
    public = {ours: theirs for theirs, ours in NAMES.items()}
    return f"{public[module]}.{leaf}"


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.", "model.")
    layers = [match for key in state if (match := LAYER.fullmatch(key)) and match[3] == "weight"]
    first = state["RDBs.0.convs.0.conv.0.weight"]
    arguments = {
        "channels": first.shape[1],
        "depth": 1 + max(int(match[1]) for match in layers),
        "layers": 1 + max(int(match[2]) for match in layers),
        "growth": first.shape[0],
        "hidden": state["P2W.meta_block.0.weight"].shape[0],
    }
    ours = {our_key(key): value for key, value in state.items()}
    # Our pictures are in [0, 1]: the mean shifts, the first and last to see colours, take the change.
    ours["take_mean.weight"] = ours["take_mean.weight"].flatten(1) * LEVELS
    ours["give_mean.weight"] = ours["give_mean.weight"].flatten(1) / LEVELS
    ours["give_mean.bias"] = ours["give_mean.bias"] / LEVELS
    # Their prediction network takes (1 / scale, row, column), ours (row, column, 1 / scale).
    ours["upscale.enter.weight"] = ours["upscale.enter.weight"].roll(-1, 1)
    return arguments, ours


def to_public(net: nn.Module) -> State:
    if net.on_bicubic:
        raise ValueError("the public layout has no place for a network on top of bicubic")
    ours = dict(net.state_dict())
    ours["take_mean.weight"] = ours["take_mean.weight"][..., None, None] / LEVELS
    ours["give_mean.weight"] = ours["give_mean.weight"][..., None, None] * LEVELS
    ours["give_mean.bias"] = ours["give_mean.bias"] * LEVELS
    ours["upscale.enter.weight"] = ours["upscale.enter.weight"].roll(1, 1)
    return {public_key(key): value for key, value in ours.items()}


register(
    Importer(
        "meta-rdn",
        recognises=lambda state: any(key.endswith("P2W.meta_block.0.weight") for key in state),
        convert=convert,
        to_public=to_public,
    )
)
