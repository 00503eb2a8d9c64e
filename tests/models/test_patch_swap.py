"""patch-swap: its search against brute force, its networks by the inpainters' contract."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import models
from models.features import load_features
from models.inpainting.patch_swap import with_vgg
from models.layers import patch_swap as layer
from models.layers.patch_swap import patch_swap
from tests.models import contract


def exhaustive(features: Tensor, hole: Tensor) -> Tensor:
    """One sample (C, h, w), cell by cell, as the text says it."""
    height, width = hole.shape
    places = [(row, column) for row in range(height - 2) for column in range(width - 2)]

    def patch(place: tuple[int, int]) -> Tensor:
        return features[:, place[0] : place[0] + 3, place[1] : place[1] + 3]

    missing = {place: bool(hole[place[0] : place[0] + 3, place[1] : place[1] + 3].any()) for place in places}
    bank = [place for place in places if not missing[place]]
    if not bank:
        return features
    total, count = torch.zeros_like(features), torch.zeros(height, width)
    for place in (place for place in places if missing[place]):
        like = [F.cosine_similarity(patch(place).flatten(), patch(q).flatten(), dim=0) for q in bank]
        best = bank[int(torch.stack(like).argmax())]
        total[:, place[0] : place[0] + 3, place[1] : place[1] + 3] += patch(best)
        count[place[0] : place[0] + 3, place[1] : place[1] + 3] += 1
    return torch.where(hole > 0, total / count.clamp(min=1), features)


@pytest.fixture
def features() -> Tensor:
    return torch.rand(3, 4, 9, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def holes() -> Tensor:
    holes = torch.zeros(3, 1, 9, 8)
    holes[0, :, 3:5, 2:6] = 1
    holes[1, :, :2, :3] = 1  # a corner, which fewer patches cover
    holes[2, :, ::2, ::2] = 1  # no patch is complete
    return holes


def test_it_is_the_exhaustive_search(features, holes, monkeypatch):
    truth = torch.stack([exhaustive(own, hole[0]) for own, hole in zip(features, holes, strict=True)])
    torch.testing.assert_close(patch_swap(features, holes), truth, rtol=1e-5, atol=1e-6)
    assert torch.equal(patch_swap(features, holes)[2], features[2])
    monkeypatch.setattr(layer, "BAND_VALUES", 1)  # a patch at a time
    torch.testing.assert_close(patch_swap(features, holes), truth, rtol=1e-5, atol=1e-6)


def test_without_a_hole_nothing_changes(features):
    assert torch.equal(patch_swap(features, torch.zeros(3, 1, 9, 8)), features)


def test_a_repeated_picture_is_its_own_answer(holes):
    """Where every missing patch has its equal outside the hole, the swap brings it back."""
    tile = torch.rand(1, 4, 3, 4, generator=torch.Generator().manual_seed(2))
    features = tile.repeat(1, 1, 4, 3)
    hole = torch.zeros(1, 1, 12, 12)
    hole[..., 4:7, 3:6] = 1
    torch.testing.assert_close(patch_swap(features, hole), features)


def test_patches_may_be_compared_by_other_features(features, holes):
    """With looks that repeat, what is copied is the feature at the look's equal."""
    column = torch.arange(12.0)
    looks = torch.stack([torch.sin(column % 6), torch.cos(column % 6)]).view(1, 2, 1, 12).expand(1, 2, 6, 12)
    looks = looks * (1 + torch.arange(6.0)[:, None] ** 2)
    looks = torch.cat([looks, torch.ones(1, 1, 6, 12)], 1)
    values = torch.arange(12.0).view(1, 1, 1, 12).expand(1, 1, 6, 12)
    hole = torch.zeros(1, 1, 6, 12)
    hole[..., 8:10] = 1
    swapped = patch_swap(values, hole, looks)
    assert swapped[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 2, 3, 10, 11]


def test_gradients_reach_what_is_copied(features, holes):
    features.requires_grad_()
    patch_swap(features, holes)[0, :, 3:5, 2:6].sum().backward()
    assert (features.grad[0] != 0).any()
    assert not features.grad[0, :, 3:5, 2:6].any()


@pytest.fixture
def net():
    return contract.make("patch-swap", width=4, widths=[8, 8, 8], blocks=1, scales=1)


@pytest.fixture
def two_scales():
    return contract.make("patch-swap", width=4, widths=[8, 8, 8], blocks=1, scales=2)


def test_samples_do_not_meet(net, two_scales):
    contract.answers_alike_in_any_batch(net)
    contract.answers_alike_in_any_batch(two_scales)


def test_the_hole_is_not_seen(net, two_scales):
    contract.is_blind_to_the_hole(net)
    contract.is_blind_to_the_hole(two_scales)


def test_sizes(net, two_scales):
    contract.keeps_its_size_rule("patch-swap", two_scales)
    contract.is_finite_without_anything_known_and_without_a_hole(net)
    assert (net.minimum, net.multiple, net.window) == (16, 16, 256)
    with pytest.raises(ValueError, match="depth"):
        models.create("patch-swap", depth=3)


def test_the_export_answers_alike(net, two_scales):
    assert contract.differs_from_its_export_by(net).max() < 1e-3
    assert contract.differs_from_its_export_by(two_scales).max() < 1e-3


def test_stages(net, two_scales):
    contract.stages_end_with_the_answer(net)
    contract.stages_end_with_the_answer(two_scales)
    image, mask = contract.pictures(1, 64, 64)
    assert [len(each.stages(image, mask)) for each in (net, two_scales)] == [2, 3]


def test_a_sketch_is_drawn_after(net, two_scales):
    contract.uses_a_sketch_inside_the_hole_alone(net)
    contract.uses_a_sketch_inside_the_hole_alone(two_scales)


def test_both_parts_learn(net):
    contract.every_parameter_learns(net)
    contract.a_few_steps_lower_the_loss(net, rate=3e-3)


@torch.no_grad()
def test_training_translates_the_true_picture(net):
    """While it learns, Feature2Image sees what lies in the hole; Image2Feature never does."""
    image, mask = contract.pictures(1, 32, 32)
    other = image * (1 - mask) + 0.3 * mask
    guesses, fills = zip(*(net.train().stages(picture, mask) for picture in (image, other)), strict=True)
    assert torch.equal(*guesses)
    assert not torch.equal(*fills)


def test_the_public_feature_space_fits(tmp_path):
    """By its layers' names and shapes; here with random numbers."""
    net = contract.make("patch-swap", vgg=True, depth=0, widths=[8, 8, 8])
    files = [tmp_path / "features.safetensors", tmp_path / "decoder.safetensors"]
    shapes = {
        files[0]: {"0": 3, "2": 64, "5": 64, "9": 128, "12": 128, "16": 256},
        files[1]: {"1": 128, "5": 128, "8": 64, "12": 64, "15": 3},
    }
    for file, layers in shapes.items():
        entering, state = 256 if file == files[1] else 3, {}
        for key, leaving in layers.items():
            kernel = 1 if key == "0" else 3
            state[f"{key}.weight"] = torch.randn(leaving, entering, kernel, kernel).half()
            state[f"{key}.bias"] = torch.randn(leaving).half()
            entering = leaving
        save_file(state, file)
    with_vgg(net, *files)
    image = torch.rand(1, 3, 32, 32)
    vgg = load_features(files[0])
    torch.testing.assert_close(net.space(image), vgg(image)[-1])
