"""Public checkpoints of Real-ESRGAN's light network: a list of convolutions and slopes; the last enlarges."""

from __future__ import annotations

import math
import re
from typing import Any

from torch import nn

from models.checkpoints.importer import CheckpointError, Importer, State, register, strip_prefix


def last_number(state: State) -> int:
    return max(int(match[1]) for key in state if (match := re.fullmatch(r"body\.(\d+)\.weight", key)))


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.", "generator.")
    last = last_number(state)
    entering, leaving = state["body.0.weight"], state[f"body.{last}.weight"]
    factor = math.isqrt(leaving.shape[0] // 3)
    if factor < 1 or leaving.shape[0] != 3 * factor**2:
        raise CheckpointError(f"srvgg: {leaving.shape[0]} planes leave, which is no enlarged picture")
    ours = {
        key.replace(f"body.{last}.", "leave.") if key.startswith(f"body.{last}.") else key: value
        for key, value in state.items()
    }
    return {"channels": entering.shape[0], "layers": (last - 2) // 2, "factor": factor}, ours


def to_public(net: nn.Module) -> State:
    state = net.state_dict()
    last = last_number(state) + 1
    return {key.replace("leave.", f"body.{last}."): value for key, value in state.items()}


register(
    Importer(
        "srvgg",
        recognises=lambda state: any(
            key.endswith("body.1.weight") and value.ndim == 1 for key, value in state.items()
        ),
        convert=convert,
        to_public=to_public,
    )
)
