from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from models.inpainting.patchmatch import depth_of
from models.layers.patch_field import PatchField, patches_of, spread


def stripes(height: int, width: int) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    wave = ((rows + 2 * columns) % 8 < 4).float()
    return torch.stack([wave, wave * 0.5, 1 - wave])[None]


def hole_of(height: int, width: int, top: int, left: int, side: int) -> torch.Tensor:
    hole = torch.zeros(1, 1, height, width)
    hole[..., top : top + side, left : left + side] = 1
    return hole


def test_a_regular_texture_is_continued():
    image, hole = stripes(64, 72), hole_of(64, 72, 20, 24, 16)
    answer = models.create("patchmatch")(image, hole)
    wrong = ((answer - image).abs().amax(1, keepdim=True) > 0.25) & (hole > 0)
    assert wrong.sum() / hole.sum() < 0.1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31 - 1))
def test_any_size_and_hole_is_answered_within_the_known_range(height, width, seed):
    torch.manual_seed(seed)
    image, hole = torch.rand(1, 3, height, width), (torch.rand(1, 1, height, width) < 0.3).float()
    answer = models.create("patchmatch")(image, hole)
    assert answer.isfinite().all()
    assert answer.min() >= 0
    assert answer.max() <= 1
    assert torch.equal(answer * (1 - hole), image * (1 - hole))


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 4), st.floats(0, 0.2), st.integers(0, 2**31))
def test_steps_are_counted_along_both_axes(height, width, reach, share, seed):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    known = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < share
    away = torch.full((height, width), 99)
    for row, column in known.nonzero():
        away = away.minimum(torch.maximum((rows - row).abs(), (columns - column).abs()))
    assert torch.equal(spread(known, reach), away <= reach)
    assert torch.equal(depth_of(~known, 7), away.clamp(max=7).float())


def test_nothing_known_is_still_an_answer():
    assert models.create("patchmatch")(torch.rand(1, 3, 9, 9), torch.ones(1, 1, 9, 9)).isfinite().all()


def test_neighbours_in_the_batch_and_pixels_in_the_hole_change_nothing():
    torch.manual_seed(0)
    net = models.create("patchmatch")
    image, other = stripes(40, 40), torch.rand(1, 3, 40, 40)
    hole, wide = hole_of(40, 40, 10, 12, 9), hole_of(40, 40, 3, 3, 20)
    alone = net(image, hole)
    together = net(torch.cat([other, image]), torch.cat([wide, hole]))
    assert torch.equal(alone[0], together[1])
    assert torch.equal(alone, net(torch.where(hole > 0, torch.rand_like(image), image), hole))


def test_the_field_gets_close_to_the_exhaustive_search():
    torch.manual_seed(0)
    image = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 44, 44), 5, 1)[0]
    hole = hole_of(40, 40, 14, 14, 8)[0, 0] > 0
    patches = patches_of(image, 5)
    field = PatchField(hole, 5, torch.Generator().manual_seed(0))
    field.scatter()
    first = None
    for _ in range(6):
        field.improve(patches, (4, 1), 4)
        first = field.cost.mean() if first is None else first
        assert field.usable[field.source].all()
    best = torch.cdist(patches[field.targets], patches[field.sources]).square().amin(1)
    assert (field.cost >= best - 1e-4).all()
    assert field.cost.mean() <= first
    assert field.cost.mean() < 1.3 * best.mean()


def test_only_whole_known_patches_inside_the_picture_are_sources():
    hole = hole_of(12, 12, 5, 5, 2)[0, 0] > 0
    field = PatchField(hole, 5, torch.Generator())
    usable = field.usable.view(12, 12)
    for row in range(12):
        for column in range(12):
            inside = 2 <= row < 10 and 2 <= column < 10
            clean = not hole[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3].any()
            assert bool(usable[row, column]) == (inside and clean)
    assert field.possible
    assert not PatchField(torch.ones(4, 4, dtype=torch.bool), 5, torch.Generator()).possible


def test_the_seed_decides():
    image, hole = torch.rand(1, 3, 32, 32), hole_of(32, 32, 8, 8, 12)
    same = [models.create("patchmatch", seed=3)(image, hole) for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(same[0], models.create("patchmatch", seed=4)(image, hole))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_flat_stays_flat(value):
    image = torch.full((1, 3, 30, 30), value)
    answer = models.create("patchmatch")(image, hole_of(30, 30, 9, 9, 11))
    assert torch.allclose(answer, image, atol=1e-5)
