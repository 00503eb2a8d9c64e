"""Public checkpoints of contextual residual aggregation: the variables of its TensorFlow graph.

The coarse network's values and its gate are two convolutions there and one here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.importer import Importer, State, register, strip_prefix, swapped
from models.checkpoints.tensorflow import from_tensorflow, to_tensorflow

COARSE = [
    "c_en_down_128", "c_en_conv_128", "c_en_down_64",
    *(f"c_en_conv{number}_64" for number in (1, 2, 3)),
    *(f"c_dil_d{number}" for number in range(1, 15)),
    *(f"c_de_conv{number}_64" for number in (1, 2, 3)),
    "c_de_up_128/c_de_up_128_conv", "c_de_conv_128", "c_de_toRGB/c_de_toRGB_conv",
]  # fmt: skip
REFINED = {
    **{f"encoder.{level}.0": f"re_en_down_{256 >> level}" for level in range(3)},
    **{f"encoder.{level}.1": f"re_en_conv_{256 >> level}" for level in range(3)},
    **{f"dilated.{index}": f"re_dil_d{1 << index}" for index in range(5)},
    "attended": "re_att_64_att1",
    "joined": "re_att_64_att3",
    **{f"transfers.{index}.0": f"re_de_att_{128 << index}_1" for index in range(2)},
    **{f"transfers.{index}.1": f"re_de_att_{128 << index}_2" for index in range(2)},
    **{
        f"decoder.{index}.0.layer": f"re_de_up__{side}/re_de_up__{side}_conv"
        for index, side in enumerate((128, 256))
    },
    **{f"decoder.{index}.1": f"re_de_conv_{128 << index}" for index in range(2)},
    "leave.layer": "re_de_toRGB__256/re_de_toRGB__256_conv",
}
PARTS = {
    "value.conv.weight": "w",
    "value.conv.bias": "biases",
    "gate.weight": "pw",
    "gate.bias": "ds_biases",
}


def coarse_names() -> dict[str, str]:
    """Values and gates apart, under names of ours that end in `.value` or `.gate`."""
    names = {}
    for index, public in enumerate(COARSE):
        own = f"coarse.{index}.layer.conv" if "/" in public else f"coarse.{index}.conv"
        for leaf, theirs in (("weight", "w"), ("bias", "biases")):
            for part, ending in (("value", "feat"), ("gate", "gate")):
                names[f"{own}.{leaf}.{part}"] = f"generator/{public}_{ending}/{theirs}"
    return names


NAMES = coarse_names() | {
    f"refined.{own}.{ours}": f"generator/{public}/{theirs}"
    for own, public in REFINED.items()
    for ours, theirs in PARTS.items()
}
FIRST = ("coarse.0.conv", "refined.encoder.0.0.value.conv", "refined.encoder.0.0.gate")
LAST = (f"coarse.{len(COARSE) - 1}.layer.conv", "refined.leave.layer.value.conv", "refined.leave.layer.gate")


def colours_turned(state: State) -> State:
    """The first layers' pictures and the last layers' answers, red for blue; a shared gate stays the last."""

    def turned(value: Tensor, axis: int) -> Tensor:
        colours, rest = value.tensor_split([3], axis)
        return torch.cat([colours.flip(axis), rest], axis)

    axes = {f"{key}.weight": 1 for key in FIRST}
    axes |= {f"{key}.{leaf}": 0 for key in LAST for leaf in ("weight", "bias")}
    return {key: turned(value, axes[key]) if key in axes else value for key, value in state.items()}


def convert(state: State) -> tuple[dict[str, Any], State]:
    named = from_tensorflow(strip_prefix(state, "module."), swapped(NAMES))
    ours: State = {}
    for key, value in named.items():
        stem, _, part = key.rpartition(".")
        if part == "value":
            ours[stem] = torch.cat([value, named[f"{stem}.gate"]])
        elif part != "gate":
            ours[key] = value
    return {"width": ours["coarse.1.conv.weight"].shape[1]}, colours_turned(ours)


def to_public(net: nn.Module) -> State:
    answer: State = {}
    for key, value in colours_turned(dict(net.state_dict())).items():
        if key.startswith("coarse."):
            answer |= {f"{key}.value": value[:-1], f"{key}.gate": value[-1:]}
        else:
            answer[key] = value
    return to_tensorflow(answer, NAMES)


register(
    Importer(
        "hifill",
        recognises=lambda state: any(key.endswith("generator/c_en_down_128_feat/w") for key in state),
        convert=convert,
        to_public=to_public,
    )
)
