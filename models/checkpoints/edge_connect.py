"""Public checkpoints of EdgeConnect: two files, one a generator, with spectral normalisation in the first.

A state may hold both under the prefixes `edge.` and `inpaint.`; otherwise the other file is the option
`companion`. Which of the two a file is, its last layer tells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.importer import (
    CheckpointError,
    Importer,
    PublicState,
    State,
    register,
    strip_prefix,
    unwrap,
)

GENERATORS = ("edge", "inpaint")
TRANSPOSED = ("decoder.0.", "decoder.3.")


def convert(state: State, companion: PublicState | None = None) -> tuple[dict[str, Any], State]:
    found = generators(state)
    if companion is not None:
        found |= generators(unwrap(companion))
    for name in GENERATORS:
        if name not in found:
            raise CheckpointError(
                f"edge-connect is two files, and the {name} generator's is missing; give it as companion"
            )
    first = found["inpaint"]["encoder.1.weight"]
    blocks = [int(key.split(".")[1]) for key in found["inpaint"] if key.startswith("middle.")]
    arguments = {"width": first.shape[0], "blocks": 1 + max(blocks, default=-1)}
    return arguments, {f"{name}.{key}": value for name in GENERATORS for key, value in found[name].items()}


def generators(state: State) -> dict[str, State]:
    state = strip_prefix(state, "module.")
    inside = {name: strip_prefix(state, f"{name}.") for name in GENERATORS}
    parts = {name: part for name, part in inside.items() if part is not state}
    if not parts:
        kind = "edge" if state["decoder.7.weight"].shape[0] == 1 else "inpaint"
        parts = {kind: state}
    return {name: without_spectral_norm(strip_prefix(part, "module.")) for name, part in parts.items()}


def without_spectral_norm(state: State) -> State:
    """The weights as they are applied, in place of each triple weight_orig, weight_u, weight_v."""
    answer: State = {}
    for key, value in state.items():
        layer, _, leaf = key.rpartition(".")
        if leaf == "weight_orig":
            u, v = state[f"{layer}.weight_u"], state[f"{layer}.weight_v"]
            answer[f"{layer}.weight"] = value / torch.dot(u, matrix(f"{layer}.", value) @ v)
        elif leaf not in ("weight_u", "weight_v"):
            answer[key] = value
    return answer


def matrix(layer: str, weight: Tensor) -> Tensor:
    """One row for each leaving channel."""
    return (weight.transpose(0, 1) if layer.startswith(TRANSPOSED) else weight).flatten(1)


def to_public(net: nn.Module) -> State:
    public: State = {}
    for key, value in net.state_dict().items():
        generator, _, rest = key.partition(".")
        if generator == "inpaint" or rest.startswith("decoder.7.") or rest.endswith("bias"):
            public[key] = value
            continue
        # Any pair of vectors between which the weight is 1 leaves it as it is.
        rows = matrix(rest, value)
        u = nn.functional.normalize(rows.sum(1), dim=0)
        v = rows.T @ u
        public |= {f"{key}_orig": value, f"{key}_u": u, f"{key}_v": v / v.square().sum()}
    return public


register(
    Importer(
        "edge-connect",
        recognises=lambda state: all(
            any(part in key for key in state) for part in ("encoder.1.weight", "middle.0.conv_block.1.weight")
        ),
        convert=convert,
        to_public=to_public,
    )
)
