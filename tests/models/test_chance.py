"""Draws from seeds: normal, of no relation to each other, and the same in any company."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from models.layers.chance import PRIME, normal, seeds_of, uniform


def seeds(*values: int) -> torch.Tensor:
    return torch.tensor(values)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, PRIME - 1), st.integers(0, 40))
def test_draws_are_normal(seed: int, stream: int) -> None:
    x = normal(seeds(seed), stream, 200, 200)[0]
    assert abs(x.mean()) < 0.03
    assert abs(x.std() - 1) < 0.03
    assert abs((x**4).mean() - 3) < 0.3
    for other in (x.roll(1, 1), x.roll(1, 0), normal(seeds((seed + 1) % PRIME), stream, 200, 200)[0]):
        assert abs((x * other).mean()) < 0.03
    assert abs((x * normal(seeds(seed), stream + 1, 200, 200)[0]).mean()) < 0.03


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**62))
def test_a_share_of_uniform_draws_lies_below_it(seed: int) -> None:
    x = uniform(seeds_of(seed, torch.zeros(1)), 3, 40000)
    assert x.min() > 0
    assert x.max() <= 1
    for share in (0.1, 0.5, 0.9):
        assert abs((x < share).float().mean() - share) < 0.02


NETWORKS = [
    ("comodgan", {"side": 16, "width": 8}),
    ("mat", {"side": 128, "width": 8, "tokens": 12, "blocks": [1] * 5}),
]


@pytest.mark.parametrize(("name", "arguments"), NETWORKS)
@torch.inference_mode()
def test_a_sample_draws_from_its_own_seed(name: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(3)
    net = models.create(name, **arguments).eval()
    side = net.window
    image, mask = torch.rand(1, 3, side, side), torch.zeros(1, 1, side, side)
    mask[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    together = net(image.expand(3, -1, -1, -1), mask.expand(3, -1, -1, -1), seed=seeds(5, 0, 7))
    for place, seed in enumerate((5, 0, 7)):
        torch.testing.assert_close(together[place], net(image, mask, seed=seed)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(image, mask)[0], together[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[2], atol=1e-3)


def test_networks_that_draw_say_so() -> None:
    drawing = {name for name, entry in models.architectures().items() if entry.draws}
    assert drawing == {name for name, _ in NETWORKS}


def test_what_a_network_does_not_draw_it_refuses() -> None:
    net = models.create("comodgan", side=16, width=8)
    with pytest.raises(TypeError, match="noise0 to noise4, all of them or none"):
        net(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16), noise0=torch.zeros(1, 1, 4, 4))
