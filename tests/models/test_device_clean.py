"""No forward pass makes a device wait for its host: no tensor made of host values, no value read back.

On the `meta` device tensors have shapes and no values: whatever asks for a value fails there. What is made of
Python's values inside a pass would stall a GPU, and cannot be captured into a graph.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

import models
from models import registry

# They choose by values: searches, whose work depends on what they find.
SEARCHES = {"patchmatch", "guided-patchmatch", "patch-swap", "neural-patch"}
SHELLS = {"spandrel"}  # nothing without a file
SIDE = 256


def run(name: str, net: Any) -> None:
    """A pass."""
    kind = registry.get(name)
    if kind.task == "upscale":
        features = net.features(torch.zeros(2, 3, 48, 48, device="meta"))
        net.render(features[:1], 2.7, origin=(7, 11), region=(54, 81, 40, 50))
    else:
        side = max(SIDE, kind.build.sides.minimum)
        net(torch.zeros(2, 3, side, side, device="meta"), torch.zeros(2, 1, side, side, device="meta"))


@pytest.mark.parametrize("name", sorted(set(models.architectures()) - SEARCHES - SHELLS))
@torch.inference_mode()
def test_a_forward_pass_never_waits_for_the_host(name, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    with torch.device("meta"):
        net = models.create(name).eval()
    run(name, net)  # what is made once, and kept, is made here
    made: list[Tensor] = []
    for maker in ("tensor", "as_tensor", "from_numpy"):
        original = getattr(torch, maker)

        def watched(*given: Any, make: Any = original, **options: Any) -> Tensor:
            made.append(make(*given, **options))
            return made[-1]

        monkeypatch.setattr(torch, maker, watched)
    run(name, net)
    assert [tensor for tensor in made if tensor.dim()] == []
