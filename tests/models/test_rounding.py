"""A GPU's answers are those of a processor but for their last rounding: the promise of docs/gpu.md."""

from __future__ import annotations

import pytest
import torch

from models import manifest, registry
from tests.models.rounding import apart, to_tf32

SIDE = 96  # of the test; the table is made at 256


def test_tf32_keeps_ten_bits():
    x = torch.randn(1000)
    assert ((to_tf32(x) - x).abs() <= x.abs() * 2.0**-11).all()
    assert torch.equal(to_tf32(to_tf32(x)), to_tf32(x))
    assert (to_tf32(x) != x).any()


# The others are computed in float32.
ROUNDED = [
    name for name, entry in manifest.installed().items() if not registry.get(entry.architecture).chooses
]


@pytest.mark.parametrize("model", ROUNDED)
@pytest.mark.parametrize("name", ["tf32", "float16"])
def test_answers_stay_within_a_level(model, name):
    mean, largest, share = apart(model, SIDE, name)
    assert 0 < largest <= 1
    assert mean <= 0.05
    assert share <= 0.05
