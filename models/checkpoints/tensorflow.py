"""Variables of TensorFlow graphs: names with slashes, kernels (height, width, entering, leaving)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from models.checkpoints.importer import State

# What training leaves in a checkpoint beside a generator's weights.
OTHERS = re.compile(r"discriminator/.*|.*/Adam(_\d+)?|(.*/)?beta\d_power(_\d+)?|global_step")


def from_tensorflow(state: State, names: Mapping[str, str]) -> State:
    """`names` goes from the graph's names to ours; what has none keeps its own, so that it is reported."""
    kept = {key: value for key, value in state.items() if not OTHERS.fullmatch(key)}
    return {
        names.get(key, key): value.permute(3, 2, 0, 1).contiguous() if value.dim() == 4 else value
        for key, value in kept.items()
    }


def to_tensorflow(state: State, names: Mapping[str, str]) -> State:
    """The inverse; `names` goes from ours to the graph's."""
    return {
        names[key]: value.permute(2, 3, 1, 0).contiguous() if value.dim() == 4 else value
        for key, value in state.items()
    }
