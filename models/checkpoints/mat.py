"""Public checkpoints of MAT: the generator's state, with the decoder's noise (official) or without.

Its weights are scaled when they are used, and the kernels of doubling convolutions stand the other way round
from ours; both are mended once and for all.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from models.checkpoints.importer import Importer, State, register, renamed, strip_prefix, swapped
from models.checkpoints.stylegan import factor
from models.inpainting.mat import DEEPEST, SIZES
from models.layers.stylegan import halved_sizes

MAPPED = 8
CONSTANTS = re.compile(r".*(\.resample_filter|\.attn_mask)")
FLIPPED = re.compile(r"(.*\.levels\.\d+\.grown|coarse\.groups\.[34]\.change)\.conv\.weight")


def modules(side: int, blocks: list[int]) -> dict[str, str]:
    """Our module's name -> the public one's."""
    first, second = "synthesis.first_stage", "synthesis"
    names = {f"mapping.layers.{index}": f"mapping.fc{index}" for index in range(MAPPED)}
    names["coarse.enter.conv.conv"] = f"{first}.conv_first.conv"
    halvings = (side // SIZES[0]).bit_length() - 1
    for level in range(halvings):
        names[f"coarse.halve.{level}.conv.conv"] = f"{first}.enc_conv.{level}.conv"
        names |= level_names(f"coarse.levels.{level}", f"{first}.dec_conv.{level}")
    for index, count in enumerate(blocks):
        names |= group_names(f"coarse.groups.{index}", f"{first}.tran.{index}", index, count)
    for level in range(4):
        names[f"coarse.down.{level}.conv"] = f"{first}.down_conv.{level}"
    for dense in ("to_style", "ws_style", "to_square"):
        names[f"coarse.{dense}"] = f"{first}.{dense}"
    names |= {"refined.to_square": f"{second}.to_square", "refined.to_style": f"{second}.to_style.fc"}
    for level in range(3):
        names[f"refined.down.{level}.conv"] = f"{second}.to_style.conv.{level}"
    sizes = halved_sizes(side, DEEPEST)
    for level, size in enumerate(sizes):
        own = "refined.enter" if level == 0 else f"refined.halve.{level - 1}"
        for place in range(2):
            names[f"{own}.{place}.conv"] = f"{second}.enc.EncConv_Block_{size}x{size}.conv{place}"
    deepest = f"{second}.dec.Dec_{DEEPEST}x{DEEPEST}"
    names["refined.first.conv"] = f"{deepest}.conv0"
    names |= styled("refined.kept", f"{deepest}.conv1") | styled("refined.picture", f"{deepest}.toRGB")
    for level, size in enumerate(sizes[-2::-1]):
        names |= level_names(f"refined.levels.{level}", f"{second}.dec.Dec_{size}x{size}")
    return names


def group_names(own: str, theirs: str, index: int, blocks: int) -> dict[str, str]:
    names = {f"{own}.last.conv.conv": f"{theirs}.conv.conv"}
    if index:
        halving = SIZES[index] < SIZES[index - 1]
        names[f"{own}.change.conv.conv" if halving else f"{own}.change.conv"] = (
            f"{theirs}.downsample.conv.conv"
        )
    for block in range(blocks):
        before, after = f"{own}.blocks.{block}", f"{theirs}.blocks.{block}"
        names |= {f"{before}.attn.{part}": f"{after}.attn.{part}" for part in ("q", "k", "v", "proj")}
        names |= {f"{before}.mlp.{place}": f"{after}.mlp.fc{place + 1}" for place in range(2)}
        names[f"{before}.fuse"] = f"{after}.fuse"
    return names


def styled(own: str, theirs: str) -> dict[str, str]:
    return {own + part: theirs + part for part in ("", ".conv", ".conv.affine")}


def level_names(own: str, theirs: str) -> dict[str, str]:
    parts = {"grown": "conv0", "kept": "conv1", "picture": "toRGB"}
    return {
        name: public
        for part, other in parts.items()
        for name, public in styled(f"{own}.{part}", f"{theirs}.{other}").items()
    }


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(strip_prefix(state, "module."), "generator.")
    found = (re.fullmatch(r"synthesis\.dec\.Dec_(\d+)x\d+\.conv1\.bias", key) for key in state)
    side = max((int(match[1]) for match in found if match), default=512)
    blocks = [
        sum(
            bool(re.fullmatch(rf"synthesis\.first_stage\.tran\.{index}\.blocks\.\d+\.fuse\.bias", key))
            for key in state
        )
        for index in range(len(SIZES))
    ]
    kept = {key: value for key, value in state.items() if not CONSTANTS.fullmatch(key)}
    ours = renamed(kept, swapped(modules(side, blocks)))
    ours["mean_style"] = ours.pop("mapping.w_avg")
    for key, value in ours.items():
        value = value[0] if value.dim() == 5 else value
        value = value * factor(key, value)
        ours[key] = value.flip(-1, -2) if FLIPPED.fullmatch(key) else value
    arguments = {
        "side": side,
        "width": ours["refined.to_square.weight"].shape[1],
        "tokens": ours["coarse.ws_style.weight"].shape[0],
        "blocks": blocks,
        "noise": "refined.kept.noise_strength" in ours,
    }
    return arguments, ours


def to_public(net: nn.Module) -> State:
    state = dict(net.state_dict())
    for key, value in state.items():
        value = value.flip(-1, -2) if FLIPPED.fullmatch(key) else value
        value = value / factor(key, value)
        styled = re.fullmatch(r".*\.(grown|kept|picture)\.conv\.weight", key)
        state[key] = value[None] if styled else value
    blocks = [len(group.blocks) for group in net.coarse.groups]  # type: ignore[union-attr]
    answer = renamed(state, modules(net.window, blocks))  # type: ignore[arg-type]
    return {"mapping.w_avg" if key == "mean_style" else key: value for key, value in answer.items()}


register(
    Importer(
        "mat",
        recognises=lambda state: any(
            key.endswith("synthesis.first_stage.conv_first.conv.weight") for key in state
        ),
        convert=convert,
        to_public=to_public,
    )
)
