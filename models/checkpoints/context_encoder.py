"""Public checkpoints of Context Encoder, as its PyTorch port numbers the layers."""

from __future__ import annotations

from typing import Any

from models.checkpoints.importer import Importer, State, register, strip_prefix


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.", "netG.")
    arguments = {
        "width": state["main.0.weight"].shape[0],
        "bottleneck": state["main.14.weight"].shape[0],
        "centre": "main.32.weight" not in state,
    }
    return arguments, state


register(
    Importer(
        "context-encoder",
        recognises=lambda state: any(key.endswith("main.17.weight") for key in state),
        convert=convert,
        to_public=lambda net: dict(net.state_dict()),
    )
)
