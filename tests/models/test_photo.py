"""The shipped upscaler that restores: no seams, no ringing, no tint, and fewer traces of JPEG."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import models
from models.evaluation.upscale import by_network
from models.training.degradations import jpeg
from models.upscaling.compression import blockiness

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net():
    return models.load("meta-sr-photo").eval()


def scene(height, width):
    """Soft colours under hard edges."""
    rows, columns = np.mgrid[:height, :width]
    soft = np.stack([90 + 50 * np.sin(rows / 19), 120 + 40 * np.cos(columns / 13), 100 + 0 * rows], -1)
    soft[(rows * 2 + columns) % 37 < 12] *= 0.6
    return soft.astype(np.uint8)


def tensor(picture):
    return torch.tensor(picture).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("scale", [1.0, 2.7])
def test_tiles_with_the_receptive_fields_overlap_equal_the_whole(net, scale):
    margin = net.receptive_field
    image = tensor(jpeg(scene(80 + 2 * margin, 64), 60))
    core = 40
    seam = int(np.ceil((margin + core) * scale))
    with torch.inference_mode():
        whole = net(image, scale)
        upper = net.features(image[:, :, : core + 2 * margin])
        part = net.render(upper, scale, region=(0, 0, seam, whole.shape[-1]))
    assert float((part - whole[:, :, :seam]).abs().max()) <= 1 / 255


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (20, 130, 240)])
@pytest.mark.parametrize("scale", [Fraction(1), Fraction(27, 10), Fraction(4)])
def test_flat_stays_flat_but_for_a_faint_rim(net, colour, scale):
    flat = np.full((23, 28, 3), colour, np.uint8)
    size = (int(23 * scale), int(28 * scale))
    away = np.abs(by_network(net, CPU)(flat, scale, size).astype(int) - colour)
    rim = int(8 * scale)
    assert away[rim:-rim, rim:-rim].max() <= 1
    assert away.max() <= 7  # what lies beyond the border is black to the network


def test_every_scale_keeps_the_colours(net):
    small = scene(24, 28)
    enlarge = by_network(net, CPU)
    for tenths in range(10, 81, 5):
        scale = Fraction(tenths, 10)
        answer = enlarge(small, scale, (int(24 * scale), int(28 * scale)))
        difference = answer.mean((0, 1)) - small.mean((0, 1))
        assert np.abs(difference).max() <= 1, (tenths, difference)


@pytest.mark.parametrize("quality", [30, 50])
def test_at_its_own_size_a_picture_loses_its_blocks(net, quality):
    truth = scene(96, 112)
    given = jpeg(truth, quality)
    answer = by_network(net, CPU)(given, Fraction(1), (96, 112))
    assert answer.shape == truth.shape
    assert blockiness(answer) < 0.8 * blockiness(given)
