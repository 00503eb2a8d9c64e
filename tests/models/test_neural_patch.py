"""neural-patch by the inpainters' contract, and what its search does to a picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import models
from models.checkpoints import importers, load_public, recognise
from models.inpainting.neural_patch import NeuralPatch
from tests.models import contract


def make(**arguments: object) -> NeuralPatch:
    """With layers of a few channels and, like trained ones, answers of the size of what comes in."""
    net: NeuralPatch = contract.make("neural-patch", width=4, **arguments)
    for layer in net.features.layers.values():
        torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return net


@pytest.fixture
def net() -> NeuralPatch:
    return make(steps=1, scales=2, content="relu3_1", texture="relu2_1")


def test_the_contract_of_inpainters(net):
    contract.answers_alike_in_any_batch(net)
    contract.is_blind_to_the_hole(net)
    contract.keeps_its_size_rule("neural-patch", net)
    contract.uses_a_sketch_inside_the_hole_alone(net)


@torch.inference_mode()
def test_without_a_hole_the_picture_comes_back_and_without_anything_known_a_picture(net):
    image, mask = contract.pictures(1, 96, 112)
    image = image.contiguous(memory_format=torch.channels_last)  # as the service has them
    assert torch.equal(net(image, torch.zeros_like(mask)), image)
    assert net(image, torch.ones_like(mask)).isfinite().all()


def test_the_search_brings_the_hole_nearer_to_known_patches_and_keeps_what_is_known(monkeypatch):
    image, mask = contract.pictures(1, 96, 96)
    image = image * (1 - mask) + 0.5 * mask
    net = make(content="relu3_1", texture="relu2_1", scales=1)
    monkeypatch.setattr("models.inpainting.neural_patch.patch_swap", lambda own, _: wanted)
    net.requires_grad_(False)
    _, wanted = net.features(image.flip(3))

    def distance(picture: Tensor) -> float:
        return float((net.features(picture)[1] - wanted).square().mean())

    distances = []
    for steps in (1, 8):
        net.steps = steps
        answer = net.searched(image.clone(), mask.clone())
        assert torch.equal(answer * (1 - mask), image * (1 - mask))
        distances.append(distance(answer))
    assert distances[1] < distances[0] < distance(image)


def public(width: int, layers: int) -> dict[str, Tensor]:
    """A VGG19 file as torchvision writes it."""
    state = importers()["neural-patch"].to_public(models.create("neural-patch", width=width))
    return dict(list(state.items())[: 2 * layers]) | {"classifier.0.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize(("layers", "looks_at"), [(10, ["relu4_2", "relu4_1"]), (5, ["relu3_1", "relu2_1"])])
def test_vggs_file_gives_the_layers_that_it_has(layers, looks_at):
    state = public(4, layers)
    assert recognise(state) == "neural-patch"
    net = load_public("neural-patch", state)
    assert list(net.features.wanted) == looks_at
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert net.features.colours(mean).abs().max() < 1e-6
    assert torch.equal(net.features.layers["relu2_1"].weight, state["features.5.weight"])
    drawing = models.load("structure").state_dict()
    assert all(torch.equal(net.drawing.state_dict()[key], value) for key, value in drawing.items())


def test_style_transfers_file_is_read_as_well():
    state = {"0.weight": torch.rand(3, 3, 1, 1), "0.bias": torch.rand(3)}
    for number, (name, layer) in zip((2, 5, 9, 12, 16), make().features.layers.items(), strict=False):
        assert name
        state |= {f"{number}.weight": layer.weight.half(), f"{number}.bias": layer.bias.half()}
    assert recognise(state) == "neural-patch"
    net = load_public("neural-patch", state)
    assert torch.equal(net.features.colours.weight, state["0.weight"])
    assert list(net.features.layers) == ["relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1"]
