"""Holes to train on: of a bearable size, of every kind, growing as training goes on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.masks import KINDS, LARGEST, SMALLEST, blob, border, random_mask, rectangle, strokes


def shares(draw, count=100):
    return np.array([draw(np.random.default_rng(number)).mean() for number in range(count)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(48, 200), st.integers(48, 200), st.floats(0, 1))
def test_masks_are_holes_of_a_bearable_size(seed, height, width, progress):
    mask = random_mask(np.random.default_rng(seed), height, width, progress)
    assert mask.shape == (height, width)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert SMALLEST <= mask.mean() <= LARGEST
    assert np.array_equal(mask, random_mask(np.random.default_rng(seed), height, width, progress))


def test_training_begins_with_small_holes_and_ends_with_every_size():
    begun, ended = (shares(lambda rng, at=at: random_mask(rng, 96, 96, at), 300) for at in (0.0, 1.0))
    assert begun.mean() < 0.6 * ended.mean()
    assert (ended < 0.1).any()
    assert (ended > 0.5).any()


@pytest.mark.parametrize("kind", set(KINDS), ids=lambda kind: kind.__name__)
def test_every_kind_of_hole_grows_with_training(kind):
    small, large = (shares(lambda rng, size=size: kind(rng, 128, 128, size)) for size in (0.5, 1.0))
    assert small.mean() < large.mean()


@pytest.mark.parametrize("kind", [strokes, rectangle, blob])
def test_holes_lie_everywhere(kind):
    covered = sum(kind(np.random.default_rng(number), 64, 96) for number in range(300))
    assert covered.shape == (64, 96)
    assert (covered[8:-8, 8:-8] > 2).all()


def test_a_border_is_whole_sides():
    for number in range(30):
        mask = border(np.random.default_rng(number), 40, 60)
        assert not mask[10:-10, 15:-15].any()
        rows, columns = mask.all(1), mask.all(0)
        assert np.array_equal(mask.astype(bool), rows[:, None] | columns)


def test_a_blob_is_one_smooth_thing():
    for number in range(20):
        mask = blob(np.random.default_rng(number), 128, 128).astype(np.int8)
        rim = np.abs(np.diff(mask, axis=0)).sum() + np.abs(np.diff(mask, axis=1)).sum()
        assert rim < 8 * np.sqrt(mask.sum())
