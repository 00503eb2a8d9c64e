"""Training refuses evaluation pictures, also in other clothes, and nothing else."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from models.training import train
from models.training.overlap import OverlapError, refuse_overlap


def photograph(seed):
    """Shapes of all sizes, as a photograph has."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).resize((240, 180)), float
        )
        for side in (4, 8, 16, 64)
    ]
    grey = sum(weight * layer for weight, layer in zip((0.5, 0.25, 0.15, 0.1), layers, strict=True))
    return Image.fromarray(np.asarray(grey).astype(np.uint8)).convert("RGB")


@pytest.fixture
def folders(tmp_path):
    data, held_out = tmp_path / "train", tmp_path / "eval"
    data.mkdir()
    (held_out / "set").mkdir(parents=True)
    for number in range(6):
        photograph(number).save(data / f"{number}.jpg")
        photograph(100 + number).save(held_out / "set" / f"{number}.png")
    return data, held_out


def test_different_photographs_pass(folders):
    refuse_overlap(*folders)


@pytest.mark.parametrize(
    "disguise",
    [
        lambda picture: picture,
        lambda picture: picture.resize((120, 90), Image.Resampling.BICUBIC),
        lambda picture: picture.point(lambda value: min(255, int(value * 1.1))),
    ],
    ids=["saved again", "half size", "lighter"],
)
def test_copies_are_named(folders, disguise):
    data, held_out = folders
    disguise(photograph(103)).save(data / "holiday.jpg", quality=80)
    with pytest.raises(OverlapError, match=r"holiday\.jpg is set/3\.png; take"):
        refuse_overlap(data, held_out)


def test_training_checks_the_eval_folder_beside_its_data(folders, tmp_path):
    data, held_out = folders
    shutil.copy(held_out / "set" / "0.png", data / "copy.png")
    config = tmp_path / "tiny.toml"
    config.write_text('architecture = "meta-sr-small"\n[recipe]\n[schedule]\nminutes = 0.01\n')
    with pytest.raises(OverlapError, match=r"copy\.png"):
        train(config, data, out_dir=tmp_path / "runs" / "tiny")
