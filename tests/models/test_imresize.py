from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imresize import imresize


def plain(line: list[int], out: int, scale: float) -> list[int]:
    """One line resized, pixel by pixel, from the definition."""

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    shrink = min(1.0, scale)
    answer = []
    for pixel in range(out):
        centre = (pixel + 0.5) / scale - 0.5
        reach = range(math.floor(centre - 2 / shrink), math.ceil(centre + 2 / shrink) + 1)
        weights = [kernel(shrink * (centre - tap)) for tap in reach]
        values = [line[min(max(tap, 0), len(line) - 1)] for tap in reach]
        value = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        answer.append(min(255, max(0, math.floor(value + 0.5))))
    return answer


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.floats(0.13, 3.0), st.integers(0, 2**32 - 1))
def test_it_is_two_plain_passes_rounded_in_between(height, width, scale, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    out = [math.ceil(side * scale - 1e-9) for side in image.shape]
    down = np.array([plain(list(map(int, column)), out[0], scale) for column in image.T]).T
    expected = np.array([plain(list(map(int, row)), out[1], scale) for row in down])
    # Weights are float32 here: a value within a hair of .5 may round the other way.
    assert np.abs(imresize(image, scale).astype(int) - expected).max() <= 1
    assert (imresize(image, scale) != expected).mean() < 0.02


def test_colour_is_resized_as_its_channels_are():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    together = imresize(image, 0.4)
    assert together.shape == (8, 12, 3)
    for channel in range(3):
        assert np.array_equal(together[..., channel], imresize(image[..., channel], 0.4))


def test_flat_stays_flat():
    assert (imresize(np.full((9, 7), 77, np.uint8), 2.7) == 77).all()
