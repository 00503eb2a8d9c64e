"""Smooth fills, and the filter against grids."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers import smooth
from models.layers.smooth import blur, smooth_fill, without_grid
from tests.models.contract import pictures

SIDES = st.integers(1, 70)


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**31), st.floats(0, 1))
def test_what_is_known_stays_and_nothing_new_is_seen(height, width, seed, share):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, height, width, generator=generator)
    mask = (torch.rand(1, 1, height, width, generator=generator) < share).float()
    answer = smooth_fill(image, mask)
    known = (mask == 0).expand_as(image)
    assert torch.equal(answer[known], image[known])
    assert torch.equal(smooth_fill(torch.where(known, image, 0.7), mask), answer)
    if known.any():
        for plane, seen, whole in zip(answer[0], known[0], image[0], strict=True):
            assert plane.min() >= whole[seen].min() - 1e-5
            assert plane.max() <= whole[seen].max() + 1e-5
    else:
        torch.testing.assert_close(answer, torch.full_like(answer, 0.5))


def test_samples_do_not_meet():
    image, mask = pictures(3, 48, 80)
    mask[1] = 1
    alone = [smooth_fill(image[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(smooth_fill(image, mask), torch.cat(alone))


def test_a_slope_goes_on_through_the_hole():
    slope = torch.linspace(0, 1, 96).expand(1, 1, 96, 96)
    mask = torch.zeros(1, 1, 96, 96)
    mask[..., 32:64, 32:64] = 1
    assert (smooth_fill(slope, mask) - slope).abs().max() < 0.15


@pytest.mark.parametrize("period", [2, 4])
def test_grids_vanish_and_slopes_stay(period):
    tile = torch.rand(1, 3, period, period, generator=torch.Generator().manual_seed(1))
    grid = tile.repeat(1, 1, 32 // period, 32 // period)
    inner = (..., slice(4, -4), slice(4, -4))
    flat = tile.mean((2, 3), keepdim=True).expand_as(grid)
    torch.testing.assert_close(without_grid(grid)[inner], flat[inner])
    slope = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    torch.testing.assert_close(without_grid(slope)[inner], slope[inner])


@pytest.mark.parametrize("sigma", [8.0, 11.0, 16.0, 24.0])
@pytest.mark.parametrize("size", [(128, 128), (97, 203)])
def test_a_wide_blur_on_fewer_pixels_is_the_same(monkeypatch, sigma, size):
    image, mask = pictures(1, *size)
    image = image * (1 - mask)
    quick = blur(image, sigma)
    assert quick.shape == image.shape
    monkeypatch.setattr(smooth, "STEP", torch.inf)
    assert (quick - blur(image, sigma)).abs().max() < 0.003
