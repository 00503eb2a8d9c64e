"""guided-patchmatch's last step: what it starts from, what it learns from, and that it learns."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import models
from models.inpainting.finish import Finish
from models.training import TrainingError, train
from models.training.crops import Crops
from models.training.pictures import Pictures
from models.training.proposals import TOGETHER, Proposals

CONFIG = """
architecture = "guided-patchmatch"
[recipe]
rate = 2e-3
batch = 4
side = 48
sketches = 0.5
proposals = {proposals}
[recipe.arguments]
widths = [4, 4, 4]
blocks = 1
finish = 4
[recipe.loss]
hole = 6.0
patches = 1.0
[schedule]
minutes = 5
steps = 40
log_every = 0
average = 0.5
"""


@pytest.fixture
def guided():
    torch.manual_seed(2)
    return models.create("guided-patchmatch", widths=[4, 4, 4], blocks=1, finish=4).eval()


def made(guided, photographs, cache, count):
    crops = Crops(Pictures(photographs, cache), torch.device("cpu"))
    return Proposals(guided, crops, cache, count, side=48, sketches=0.5, seed=1)


@torch.no_grad()
def test_untrained_it_halves_what_the_copy_adds():
    guide, copied, mask = torch.rand(2, 3, 32, 48), torch.rand(2, 3, 32, 48), torch.ones(2, 1, 32, 48)
    answer = Finish(4)(guide, copied, mask)
    torch.testing.assert_close(answer, (guide + copied) / 2)


def test_proposals_are_the_models_own(guided, photographs, tmp_path):
    planes = torch.from_numpy(made(guided, photographs, tmp_path, TOGETHER).values.numpy())
    truth, drawn, copied, mask = planes.split([3, 3, 3, 1], 1)
    assert set(mask.unique().tolist()) == {0, 1}
    known = (mask == 0).expand_as(truth)
    for proposed in (drawn, copied):
        assert torch.equal(proposed[known], truth[known])
        assert not torch.equal(proposed[~known], truth[~known])


def test_proposals_are_made_once_and_gone_on_with(guided, photographs, tmp_path):
    first = made(guided, photographs, tmp_path, 3 * TOGETHER)
    whole = first.file.read_bytes()
    with torch.no_grad():
        guided.finish.leave.bias += 1  # learning does not make them anew
    first.file.write_bytes(whole[: len(whole) // 2])  # stopped in the middle
    again = made(guided, photographs, tmp_path, 3 * TOGETHER)
    assert again.file == first.file
    assert again.file.read_bytes() == whole
    with torch.no_grad():
        guided.leave.bias += 1  # another drawing does
    assert made(guided, photographs, tmp_path, TOGETHER).file != first.file


def test_samples_are_mirrored_and_turned_as_one(guided, photographs, tmp_path):
    proposals = made(guided, photographs, tmp_path, TOGETHER)
    originals = {turn(each, *how).numpy().tobytes() for each in proposals.values for how in WAYS}
    taken = proposals.take(np.random.default_rng(0), 12)
    assert all(each.contiguous().numpy().tobytes() in originals for each in taken)


WAYS = [(upside, mirrored, turned) for upside in (0, 1) for mirrored in (0, 1) for turned in (0, 1)]


def turn(planes, upside, mirrored, turned):
    planes = planes.flip(-2) if upside else planes
    planes = planes.flip(-1) if mirrored else planes
    return (planes.mT if turned else planes).contiguous()


def test_it_learns_and_the_drawing_stays(photographs, tmp_path, monkeypatch):
    config = tmp_path / "finish.toml"
    config.write_text(CONFIG.format(proposals=2 * TOGETHER))
    first = train(config, photographs, out_dir=tmp_path / "first")
    with (tmp_path / "first/log.csv").open() as file:
        losses = [float(row["l1"]) + float(row["patches"]) for row in csv.DictReader(file)]
    assert np.mean(losses[-8:]) < 0.95 * np.mean(losses[:8])
    assert (tmp_path / "first/sample.png").exists()
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(first.parent))
    config.write_text('start = "first"\n' + config.read_text())
    second = train(config, photographs, out_dir=tmp_path / "second")
    before, after = load_file(first), load_file(second)
    changed = {key for key, value in before.items() if not torch.equal(after[key], value)}
    assert changed == {key for key in before if key.startswith("finish.")}


def test_proposals_are_for_the_model_that_makes_them(photographs, tmp_path):
    config = tmp_path / "none.toml"
    text = CONFIG.format(proposals=TOGETHER).replace("guided-patchmatch", "structure")
    config.write_text(text.replace("finish = 4", ""))
    with pytest.raises(TrainingError, match="guided-patchmatch"):
        train(config, photographs, out_dir=tmp_path / "run")
