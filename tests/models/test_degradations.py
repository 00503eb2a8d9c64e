"""Each degradation does what its name says, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.imresize import imresize
from models.training import degradations
from models.training.degradations import FILTERS, Mix, degraded

EVERYTHING = Mix(
    clean=0,
    plain=0,
    blurred=1,
    noisy_before=1,
    saved_before=1,
    sharpened=1,
    noisy=1,
    coloured=1,
    saved_twice=1,
)


@pytest.fixture
def grey():
    return np.full((48, 56, 3), 128, np.uint8)


@pytest.fixture
def point(grey):
    picture = np.zeros_like(grey)
    picture[24, 28] = 255
    return picture


@pytest.fixture
def scene():
    """Waves and an edge: something of every frequency."""
    rows, columns = np.mgrid[:96, :96]
    wave = 128 + 50 * np.sin(rows * columns / 150) + 40 * (columns > 48)
    return np.stack([wave, wave * 0.8, 255 - wave], -1).astype(np.uint8)


def spread(picture):
    """Deviation of where the light is, down and across."""
    light = picture[..., 0].astype(float)
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
    return [
        float(np.sqrt((light * (at - mean) ** 2).sum() / light.sum()))
        for at, mean in ((rows, 24), (columns, 28))
    ]


def error(one, other):
    return float(np.abs(one.astype(float) - other).mean())


def test_a_gaussian_spreads_a_point_as_far_as_it_says(point):
    # A bright point alone would be lost in rounding.
    down, across = spread(degradations.blur(point, degradations.gaussian(2.0, 2.0)))
    assert down == pytest.approx(across)
    assert down == pytest.approx(2.0, rel=0.25)


def test_an_anisotropic_gaussian_is_turned(point):
    down, across = spread(degradations.blur(point, degradations.gaussian(3.0, 1.0)))
    assert down > 1.8 * across
    turned = spread(degradations.blur(point, degradations.gaussian(3.0, 1.0, np.pi / 2)))
    assert turned == pytest.approx([across, down])


def test_a_lens_makes_an_even_disc_of_a_point(point):
    disc = degradations.blur(point, degradations.disc(4.0))[..., 0]
    rows, columns = np.mgrid[:48, :56]
    distance = np.hypot(rows - 24, columns - 28)
    assert len(np.unique(disc[distance < 3.4])) == 1
    assert disc[24, 28] > 0
    assert not disc[distance > 5].any()


@given(radius=st.floats(0.3, 4), other=st.floats(0.3, 4), angle=st.floats(0, 3.1))
@settings(max_examples=20, deadline=None)
def test_blur_keeps_what_is_flat(radius, other, angle):
    flat = np.full((20, 24, 3), (7, 130, 250), np.uint8)
    for kernel in (degradations.gaussian(radius, other, angle), degradations.disc(radius)):
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert np.array_equal(degradations.blur(flat, kernel), flat)


def test_sharpening_leaves_a_halo_on_both_sides_of_an_edge():
    edge = np.full((20, 30, 3), 100, np.uint8)
    edge[:, 15:] = 150
    sharp = degradations.sharpen(edge, 1.5, 1.0)
    assert sharp[:, 14].max() < 90
    assert sharp[:, 15].min() > 160
    assert np.array_equal(sharp[:, :5], edge[:, :5])


@pytest.mark.parametrize("way", FILTERS)
def test_resampling_keeps_brightness(scene, way):
    small = degradations.resample(scene, (24, 32), way)
    assert small.shape == (24, 32, 3)
    assert small.mean((0, 1)) == pytest.approx(scene.mean((0, 1)), abs=1)


def test_sensor_noise_is_as_strong_as_asked_for_and_stronger_in_the_light(grey):
    rng = np.random.default_rng(0)
    noisy = degradations.sensor_noise(grey, 8.0, rng).astype(float)
    assert noisy.std() == pytest.approx(8, rel=0.05)
    assert noisy.mean() == pytest.approx(128, abs=0.5)
    dark, light = (
        degradations.sensor_noise(np.full_like(grey, level), 5.0, rng).std() for level in (40, 215)
    )
    assert light > 1.2 * dark


def test_chroma_noise_is_in_the_colours_alone(grey):
    noisy = degradations.chroma_noise(grey, 8.0, 1.5, np.random.default_rng(0)).astype(float)
    assert noisy.std() == pytest.approx(8, rel=0.1)
    assert (noisy @ degradations.TO_LUMA).std() < 0.5
    neighbours = np.corrcoef(noisy[:, 1:, 0].ravel(), noisy[:, :-1, 0].ravel())[0, 1]
    assert neighbours > 0.7  # blotches, not grains


@pytest.mark.parametrize("save", [degradations.jpeg, degradations.webp])
def test_saving_costs_more_at_lower_quality(scene, save):
    errors = [error(save(scene, quality), scene) for quality in (95, 75, 40, 10)]
    assert errors[0] > 0
    assert errors == sorted(errors)


def test_halved_colours_blur_colours(scene):
    scene = scene.copy()
    scene[::2, ::2] = (255, 0, 0)
    assert error(degradations.jpeg(scene, 95), scene) > 2 * error(degradations.jpeg(scene, 95, False), scene)


@pytest.mark.parametrize("shift", [(0, 0), (3, 5), (7, 1)])
def test_a_shift_moves_the_blocks(scene, shift):
    saved = degradations.shifted(scene, shift, lambda whole: degradations.jpeg(whole, 5))
    assert saved.shape == scene.shape
    jumps = np.abs(np.diff(saved.astype(float).mean(2), axis=0)).mean(1)
    # The jump from row r to the next is large where a block ends.
    by_phase = [jumps[phase::8].mean() for phase in range(8)]
    assert int(np.argmax(by_phase)) == (7 - shift[0]) % 8


def test_a_clean_share_is_made_smaller_and_nothing_else(scene):
    small, clean = degraded(scene, 32, Mix(clean=1, plain=0), np.random.default_rng(0))
    assert clean
    assert np.array_equal(small, imresize(scene, 1 / 3, (32, 32)))


def test_a_plain_share_is_saved_once(scene):
    mix = Mix(clean=0, plain=1, quality=(60, 60), webp=0)
    small, clean = degraded(scene, 32, mix, np.random.default_rng(0))
    assert not clean
    before = imresize(scene, 1 / 3, (32, 32))
    assert 0 < error(small, before) < error(degradations.jpeg(before, 20), before)


@given(seed=st.integers(0, 2**32), side=st.integers(16, 96))
@settings(max_examples=25, deadline=None)
def test_everything_at_once_still_gives_the_picture(seed, side):
    rows, columns = np.mgrid[:96, :96]
    ramp = np.stack([rows * 2, columns * 2, rows + columns], -1).astype(np.uint8)
    small, clean = degraded(ramp, side, EVERYTHING, np.random.default_rng(seed))
    again, _ = degraded(ramp, side, EVERYTHING, np.random.default_rng(seed))
    assert np.array_equal(small, again)
    assert (small.shape, small.dtype, clean) == ((side, side, 3), np.uint8, False)
    expected = np.asarray(Image.fromarray(ramp).resize((side, side), Image.Resampling.BOX))
    assert error(small, expected) < 40
    assert abs(float(small.mean()) - float(expected.mean())) < 6
