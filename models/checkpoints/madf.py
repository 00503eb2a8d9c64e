"""Public checkpoints of MADF, whose layers count levels from 1, the shallowest.

A released file holds the VGG16 of its loss too, and normalisations of the encoder that are never applied.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.importer import Importer, State, register, strip_prefix

UNUSED = re.compile(r"enc_conv_\d+\.bn\.\w+|(module\.)?extractor\..*")
BANKS = re.compile(r"filter_gen_(\d+)\.conv1\.0\.(weight|bias)")


def names(levels: int, refinements: int) -> dict[str, str]:
    """Our module's name -> the public one's, both up to the parameter."""
    answer = {"last_recovery.up": "deconv_1.0", "last_recovery.fuse": "att_conv_1.conv.0"}
    for level in range(levels):
        answer[f"encoder.{level}.mask_conv"] = f"filter_gen_{level + 1}.conv.0"
        answer[f"encoder.{level}.skip"] = f"enc_up_{level + 1}.0"
    for step in range(levels - 1):
        level = levels - step
        answer |= {
            f"recovery.{step}.up": f"deconv_{level}.0",
            f"recovery.{step}.norm": f"deconv_{level}.1",
            f"recovery.{step}.fuse": f"att_conv_{level}.conv.0",
        }
        for i in range(refinements):
            own, public = f"refinements.{i}.{step}", f"dec_ref{i}_{level}"
            answer |= {
                f"{own}.up": f"{public}.deconv",
                f"{own}.norm.norm": f"{public}.bn.batch_norm",
                f"{own}.norm.shared": f"{public}.bn.mlp_shared.0",
                f"{own}.norm.scale": f"{public}.bn.mlp_scale",
                f"{own}.norm.shift": f"{public}.bn.mlp_bias",
            }
    return answer | {f"heads.{i}.conv": f"dec_ref{i}_1" for i in range(refinements)}


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.model.", "model.", "module.")
    state = {key: value for key, value in state.items() if not UNUSED.fullmatch(key)}
    arguments = {
        "width": state["enc_up_1.0.weight"].shape[1],
        "levels": sum(bool(re.fullmatch(r"enc_up_\d+\.0\.weight", key)) for key in state),
        "hidden": state["filter_gen_1.conv.0.weight"].shape[0],
        "refinements": sum(bool(re.fullmatch(r"dec_ref\d+_1\.weight", key)) for key in state),
    }
    renamed = {public: own for own, public in names(arguments["levels"], arguments["refinements"]).items()}
    ours: State = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        match = BANKS.fullmatch(key)
        if match and match[2] == "weight":
            level = int(match[1])
            kernel = state[f"filter_gen_{level}.conv.0.weight"].shape[-1]
            leaving = state[f"enc_up_{level}.0.weight"].shape[1]
            both = torch.cat([value.flatten(1), state[f"{module}.bias"][:, None]], 1)
            ours[f"encoder.{level - 1}.dynamic.banks.weight"] = banks(both, kernel, leaving)
        elif not match:
            ours[f"{renamed[module]}.{leaf}" if module in renamed else key] = value
    return arguments, ours


def banks(emitted: Tensor, kernel: int, leaving: int) -> Tensor:
    """From rows (entering channel, row, column, leaving channel) and columns (hidden, bias)."""
    entering = emitted.shape[0] // (kernel * kernel * leaving)
    filters = emitted.view(entering, kernel, kernel, leaving, -1).permute(4, 3, 0, 1, 2)
    return filters.reshape(-1, entering, kernel, kernel).contiguous()


def emitting(weight: Tensor, leaving: int) -> Tensor:
    """The inverse of `banks`."""
    filters = weight.view(-1, leaving, *weight.shape[1:]).permute(2, 3, 4, 1, 0)
    return filters.reshape(-1, filters.shape[-1]).contiguous()


def to_public(net: nn.Module) -> State:
    public = names(len(net.encoder), len(net.refinements))  # type: ignore[arg-type]
    answer: State = {}
    for key, value in net.state_dict().items():
        module, _, leaf = key.rpartition(".")
        if not module.endswith(".dynamic.banks"):
            answer[f"{public[module]}.{leaf}"] = value
            continue
        index = int(module.split(".")[1])
        leaving = net.get_submodule(f"encoder.{index}.dynamic").leaving
        both = emitting(value, leaving)  # type: ignore[arg-type]
        level = index + 1
        answer[f"filter_gen_{level}.conv1.0.weight"] = both[:, :-1, None, None].contiguous()
        answer[f"filter_gen_{level}.conv1.0.bias"] = both[:, -1].contiguous()
        unused = nn.BatchNorm2d(leaving).state_dict()  # type: ignore[arg-type]
        answer |= {f"enc_conv_{level}.bn.{name}": tensor for name, tensor in unused.items()}
    return answer


register(
    Importer(
        "madf",
        recognises=lambda state: any(key.endswith("filter_gen_1.conv1.0.weight") for key in state),
        convert=convert,
        to_public=to_public,
    )
)
