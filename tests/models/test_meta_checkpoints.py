"""Public Meta-SR checkpoints in: any constructor arguments survive the way out and in again."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

import models
from models.checkpoints import CheckpointError, importers, load_public, recognise

ARGUMENTS: list[tuple[str, dict[str, int]]] = [
    ("meta-rdn", {"channels": 6, "depth": 3, "layers": 2, "growth": 5, "hidden": 7}),
    ("meta-rdn", {"channels": 4, "depth": 12, "layers": 1, "growth": 4, "hidden": 3}),
    ("meta-edsr", {"channels": 6, "blocks": 3, "hidden": 7}),
    ("meta-edsr", {"channels": 5, "blocks": 12, "hidden": 4}),
]
WRAPPINGS = {
    "bare": lambda state: state,
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "wrapped model": lambda state: {f"model.{key}": value for key, value in state.items()},
    "in a file": lambda state: {"model": {"name": "metasr", "args": {}, "sd": state}, "epoch": 3},
}


def seeded(name: str, arguments: dict[str, Any]) -> nn.Module:
    torch.manual_seed(5)
    net = models.create(name, **arguments).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS)
def test_round_trip(name: str, arguments: dict[str, int], wrapping: str) -> None:
    net = seeded(name, arguments)
    public = WRAPPINGS[wrapping](importers()[name].to_public(net))
    assert recognise(public) == name
    again = load_public(name, public)
    image = torch.rand(1, 3, 6, 7)
    with torch.inference_mode():
        expected = net(image, 2.3)
        assert torch.allclose(again(image, 2.3), expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS[::2])
def test_a_wrong_checkpoint_names_its_keys(name: str, arguments: dict[str, int]) -> None:
    public = importers()[name].to_public(seeded(name, arguments))
    lost = next(key for key in public if key.endswith("bias") and "head" not in key and "mean" not in key)
    del public[lost]
    public["stranger.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"misses 1 keys.*unexpected 1 keys, first 'stranger.weight'"):
        load_public(name, public)


def test_the_scale_comes_first_in_the_public_decoder_and_last_in_ours() -> None:
    net = seeded("meta-rdn", {"channels": 4, "depth": 1, "layers": 1, "growth": 4, "hidden": 3})
    public = importers()["meta-rdn"].to_public(net)["P2W.meta_block.0.weight"]
    ours = net.state_dict()["upscale.enter.weight"]
    assert torch.equal(public[:, 0], ours[:, 2])
    assert torch.equal(public[:, 1:], ours[:, :2])


def test_configuration_b_has_the_published_size() -> None:
    with torch.device("meta"):
        net = models.create("meta-rdn")
    assert sum(parameter.numel() for parameter in net.parameters()) == 22_419_096


def test_a_network_on_bicubic_has_no_public_form() -> None:
    net = models.create("meta-rdn", channels=4, depth=1, layers=1, growth=4, hidden=3, on_bicubic=True)
    with pytest.raises(ValueError, match="bicubic"):
        importers()["meta-rdn"].to_public(net)


def test_meta_edsr_takes_its_factors_from_whole_sides() -> None:
    net = seeded("meta-edsr", {"channels": 4, "blocks": 1, "hidden": 3})
    image = torch.rand(1, 3, 13, 11)
    with torch.inference_mode():
        whole = net(image, 2.7)
        assert whole.shape[-2:] == (35, 29)
        assert torch.equal(whole, net.render(net.features(image), (Fraction(35, 13), Fraction(29, 11))))
