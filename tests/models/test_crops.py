"""Training crops and their small copies, made on the network's device."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from models.imresize import imresize
from models.training.crops import Crops, degrade
from models.training.pictures import Pictures

CPU = torch.device("cpu")


@pytest.fixture
def pictures(tmp_path):
    for number, (height, width) in enumerate([(9, 14), (20, 16), (31, 12)]):
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([rows, columns, rows * 0 + 50 * number], -1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return Pictures(tmp_path, tmp_path / "cache")


def test_crops_are_flipped_and_turned_squares_of_the_pictures(pictures):
    crops = Crops(pictures, CPU).take(np.random.default_rng(0), 400, 11)
    seen = set()
    for crop in crops.permute(0, 2, 3, 1).numpy():
        number = int(crop[0, 0, 2]) // 50
        picture = pictures[number]
        assert min(picture.shape[:2]) >= 11
        turned = crop[0, 0, 0] == crop[0, 1, 0]  # rows' numbers then grow along the rows
        upright = crop if turned else crop.swapaxes(0, 1)
        down, across = upright[..., 0], upright[..., 1]
        upside, mirrored = bool(down[0, 0] > down[-1, 0]), bool(across[0, 0] > across[0, -1])
        top, left = int(down.min()), int(across.min())
        expected = picture[top : top + 11, left : left + 11]
        expected = expected[::-1] if upside else expected
        assert np.array_equal(upright, expected[:, ::-1] if mirrored else expected)
        seen.add((number, bool(turned), upside, mirrored))
    assert len(seen) == 16  # two pictures are large enough, each in eight ways


def test_the_same_seed_gives_the_same_crops(pictures):
    crops = Crops(pictures, CPU)
    one, same = (crops.take(np.random.default_rng((3, 5)), 8, 9) for _ in range(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, crops.take(np.random.default_rng((3, 6)), 8, 9))


@pytest.mark.parametrize("scale", [Fraction(tenths, 10) for tenths in (11, 15, 20, 27, 33, 40)])
def test_small_copies_are_the_standard_resize(scale):
    side = int(24 * scale)
    large = np.random.default_rng(1).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    small = degrade(torch.from_numpy(large).permute(0, 3, 1, 2), scale, 24)
    expected = np.stack([imresize(picture, float(1 / scale), (24, 24)) for picture in large])
    difference = np.abs(small.permute(0, 2, 3, 1).numpy().astype(int) - expected)
    # Another order of summing may round a value within a hair of .5 the other way.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


def test_scenes_are_squares_made_smaller(tmp_path):
    rows, columns = np.mgrid[:48, :64]
    Image.fromarray(np.stack([4 * rows, 3 * columns, 0 * rows], -1).astype(np.uint8)).save(tmp_path / "a.png")
    crops = Crops(Pictures(tmp_path, tmp_path / "cache"), CPU)
    scenes = crops.scenes(np.random.default_rng(0), 200, 24).permute(0, 2, 3, 1).numpy().astype(int)
    mirrored = scenes[:, 0, 0, 1] > scenes[:, 0, -1, 1]
    assert 60 < mirrored.sum() < 140
    scenes[mirrored] = scenes[mirrored, :, ::-1]
    # A ramp stays a ramp, as steep as the square was made smaller: by 1 to 2.
    steepness = (scenes[:, -1, 0, 0] - scenes[:, 0, 0, 0]) / (4 * 23)
    assert steepness.min() == pytest.approx(1, abs=0.05)
    assert steepness.max() == pytest.approx(2, abs=0.05)
    ramp = scenes[:, :1, 0, 0] + 4 * steepness[:, None] * np.arange(24)
    assert np.abs(scenes[..., 0] - ramp[:, :, None]).max() <= 3


def test_pictures_that_are_too_small_are_named_as_the_reason(pictures):
    with pytest.raises(ValueError, match="64 pixels"):
        Crops(pictures, CPU).scenes(np.random.default_rng(0), 1, 64)
