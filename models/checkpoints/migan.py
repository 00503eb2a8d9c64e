"""Public checkpoints of MI-GAN: the exported generator, ready to use, whose filters are constants."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from models.checkpoints.importer import CheckpointError, Importer, State, register, strip_prefix, swapped
from models.inpainting.migan import DEEPEST

GAIN = 2**0.5  # of every activation
LAYERS = {"conv1": "first", "conv2": "second"}
PARTS = {"conv1": "deep", "conv2": "across"}
CONSTANT = re.compile(r".*(filter\.weight|filter_const)")
LAYER = re.compile(r"(encoder|synthesis)\.b(\d+)\.(conv\d)\.(conv\d)\.(\w+)")
NOISE = re.compile(r"synthesis\.b(\d+)\.(conv\d)\.noise_const")
PICTURE = re.compile(r"synthesis\.b(\d+)\.torgb\.(\w+)")


def level(resolution: int, size: str | int) -> int:
    """0 for the largest size."""
    return resolution.bit_length() - int(size).bit_length()


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.", "generator.", "model.")
    sizes = [int(match[1]) for key in state if (match := re.match(r"encoder\.b(\d+)\.", key))]
    resolution = max(sizes)
    entering = f"encoder.b{resolution}.fromrgb"
    ours: State = {}
    for key, value in state.items():
        if CONSTANT.fullmatch(key) or key.endswith("noise_strength"):
            continue
        if layer := LAYER.fullmatch(key):
            side, size, first, part, leaf = layer.groups()
            where = "decoder" if side == "synthesis" else "encoder"
            name = f"{where}.{level(resolution, size)}.{LAYERS[first]}.{PARTS[part]}.{leaf}"
        elif noise := NOISE.fullmatch(key):
            # Both are fixed: their product is what is added.
            value = value * state[key.replace("noise_const", "noise_strength")]
            name = f"decoder.{level(resolution, noise[1])}.{LAYERS[noise[2]]}.noise"
        elif picture := PICTURE.fullmatch(key):
            name = f"decoder.{level(resolution, picture[1])}.picture.{picture[2]}"
        else:
            name = key.replace(entering, "enter")
        ours[name] = value if ".picture." in name else value * GAIN
    first, deepest = ours["enter.weight"], state[f"encoder.b{DEEPEST}.conv1.conv2.weight"]
    if resolution & (resolution - 1):
        raise CheckpointError(f"migan: a resolution of {resolution}, which is no power of two")
    return {"resolution": resolution, "width": first.shape[0], "widest": deepest.shape[0]}, ours


def to_public(net: nn.Module) -> State:
    resolution = int(net.window)  # type: ignore[arg-type]
    layers, parts = swapped(LAYERS), swapped(PARTS)
    answer: State = {}
    for key, value in net.state_dict().items():
        where, *rest = key.split(".")
        if ".picture." not in key:
            value = value / GAIN
        if where == "enter":
            answer[f"encoder.b{resolution}.fromrgb.{rest[0]}"] = value
            continue
        number, layer, *leaf = rest
        prefix = f"{'synthesis' if where == 'decoder' else where}.b{resolution >> int(number)}"
        if layer == "picture":
            answer[f"{prefix}.torgb.{leaf[0]}"] = value
        elif leaf == ["noise"]:
            answer[f"{prefix}.{layers[layer]}.noise_const"] = value
            answer[f"{prefix}.{layers[layer]}.noise_strength"] = torch.ones(())
        else:
            answer[f"{prefix}.{layers[layer]}.{parts[leaf[0]]}.{leaf[1]}"] = value
    return answer


register(
    Importer(
        "migan",
        recognises=lambda state: (
            any(key.endswith("encoder.b4.conv1.conv1.weight") for key in state)
            and not any("mapping." in key for key in state)
        ),
        convert=convert,
        to_public=to_public,
    )
)
