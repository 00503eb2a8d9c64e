"""Blocks of JPEG are told from a scene's own edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.degradations import jpeg, shifted
from models.upscaling.compression import blockiness, compressed


def scene(seed=0, side=96):
    rows, columns = np.mgrid[:side, :side]
    wave = 128 + 60 * np.sin(rows / 9) * np.cos(columns / 7) + 20 * (rows + columns > side)
    grain = np.random.default_rng(seed).normal(0, 3, (side, side, 3))
    return np.clip(wave[..., None] * (1, 0.9, 0.7) + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [30, 50])
@pytest.mark.parametrize("shift", [(0, 0), (3, 6)])
def test_saved_pictures_are_told_wherever_their_blocks_begin(quality, shift):
    picture = scene()
    assert not compressed(picture)
    saved = shifted(picture, shift, lambda whole: jpeg(whole, quality))
    assert compressed(saved)


def test_stripes_that_repeat_with_the_blocks_are_no_blocks():
    rows, _ = np.mgrid[:96, :96]
    stripes = np.where(rows % 8 < 4, 90, 160).astype(np.uint8)
    assert not compressed(np.stack([stripes] * 3, -1))


@given(height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_every_size_has_an_answer(height, width):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.isfinite(blockiness(picture))
    assert not compressed(np.full((height, width, 3), 77, np.uint8))
