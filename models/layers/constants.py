"""Small tensors of fixed values, made once a device.

A tensor that is made of Python's values inside a forward pass makes a GPU wait for its host each time, and
forbids to capture the pass into a graph.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

Values = tuple[float, ...] | tuple[tuple[float, ...], ...]


def constant(values: Values, like: Tensor) -> Tensor:
    """`values` where `like` is and of its type; not to be written to."""
    if torch.compiler.is_compiling():  # a compiler keeps constants itself, and looks through the cache
        return torch.tensor(values, dtype=like.dtype, device=like.device)
    return made(values, like.dtype, like.device)


@lru_cache(maxsize=256)
def made(values: Values, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Whoever asks first may not want gradients; those who ask later may.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
