"""Training lowers the loss, stops on time, resumes where it stopped, and leaves usable weights."""

from __future__ import annotations

import csv
import re
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import models
from models.training import command, train
from models.training.errors import TrainingError
from models.training.loop import Average, Schedule
from models.training.pictures import Pictures
from models.training.upscale import UpscaleConfig, UpscaleRecipe

CONFIG = """
architecture = "meta-sr-small"
[recipe]
batch = 2
patch = 12
rate = 4e-3
whole = 1.0
arguments = { channels = 16, blocks = 2, hidden = 8 }
[schedule]
minutes = 5
steps = 240
log_every = 0
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    return path


def rows_of(out):
    with (out / "log.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def loss_of(net, photographs, tmp_path):
    """Of one batch at each whole scale, always the same."""
    recipe = UpscaleRecipe(
        "meta-sr-small",
        UpscaleConfig(batch=8, patch=12, whole=1.0),
        photographs,
        tmp_path,
        torch.device("cpu"),
    )
    losses = []
    for step in range(6):
        scale, small, large = recipe.batch(step, np.random.default_rng(step))
        with torch.no_grad():
            answer = net(small / 255, scale)
        losses.append(float((answer - large / 255).abs().mean()))
    return np.mean(losses)


def test_a_short_run_lowers_the_loss_and_resumes(photographs, config, tmp_path):
    out = tmp_path / "runs" / "tiny"
    weights = train(config, photographs, out_dir=out)
    first = rows_of(out)
    assert first[-1]["step"] == 240
    net = models.create("meta-sr-small", channels=16, blocks=2, hidden=8).eval()
    untrained = loss_of(net, photographs, tmp_path / "cache")
    net.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    assert loss_of(net, photographs, tmp_path / "cache") < 0.9 * untrained
    assert (out / "sample.png").exists()
    assert weights.stat().st_mode == (out / "log.csv").stat().st_mode  # others may serve it
    config.write_text(CONFIG.replace("steps = 240", "steps = 244"))
    train(config, photographs, out_dir=out)
    second = rows_of(out)
    assert second[: len(first)] == first
    assert [row["step"] for row in second[len(first) :]] == [241, 242, 243, 244]


def test_a_run_says_how_it_goes(photographs, config, tmp_path, capsys):
    config.write_text(CONFIG.replace("steps = 240", "steps = 3") + "save_every = 0\n")
    out = tmp_path / "told"
    assert command.main([str(config), "--data", str(photographs), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out / 'average.safetensors'}\n"
    begun, *lines, following = said.err.splitlines()
    assert str(out) in begun
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 3
    for line in steps:
        assert re.fullmatch(
            r"step \d: (\w+ [\d.e-]+(, )?)+; [\d.e+]+ steps a second, \d+\.\d minutes left", line
        )
    assert f"how far it has come: {out / 'sample.png'}" in lines
    assert f"RETOUCH_WEIGHTS_DIR={out}" in following


def test_some_batches_come_from_pictures_made_smaller(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (640, 640, 3), dtype=np.uint8)).save(folder / "noise.png")
    config = UpscaleConfig(batch=4, patch=12, whole=1.0, shrunk=0.5)
    recipe = UpscaleRecipe("meta-sr-small", config, folder, tmp_path / "cache", torch.device("cpu"))
    # Noise loses contrast when it is made smaller.
    spreads = [float(recipe.batch(step, np.random.default_rng(step))[2].float().std()) for step in range(12)]
    assert 2 <= sum(spread < 60 for spread in spreads) <= 10


def test_an_error_in_brightness_may_count_more(photographs, tmp_path):
    grey = torch.full((1, 3, 2, 2), 0.1)
    tint = torch.tensor([0.1, 0.0, -0.1 * 0.299 / 0.114]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    config = UpscaleConfig(luma=2.0)
    recipe = UpscaleRecipe("meta-sr-small", config, photographs, tmp_path, torch.device("cpu"))
    assert float(recipe.loss(grey)) == pytest.approx(0.3)
    assert float(recipe.loss(tint)) == pytest.approx(float(tint.abs().mean()))


def test_a_leg_ends_and_the_next_goes_on(photographs, config, tmp_path):
    for legs in (1, 2):
        train(config, photographs, out_dir=tmp_path / "run", leg=0.01)
        state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
        assert 0.5 < state["elapsed"] / 0.6 / legs < 10
        assert state["step"] < 240


def test_weights_that_are_no_numbers_are_not_saved_over_good_ones(photographs, config, tmp_path, monkeypatch):
    train(config, photographs, out_dir=tmp_path / "run", leg=0.005)
    before = (tmp_path / "run/checkpoint.pt").read_bytes()
    monkeypatch.setattr(UpscaleRecipe, "loss", lambda self, error: error.abs().mean() * float("nan"))
    with pytest.raises(TrainingError, match="halve"):
        train(config, photographs, out_dir=tmp_path / "run", leg=0.005)
    assert (tmp_path / "run/checkpoint.pt").read_bytes() == before


def test_a_run_ends_when_its_minutes_do(photographs, config, tmp_path):
    out = tmp_path / "runs" / "tiny"
    assert train(config, photographs, minutes=0.01, out_dir=out).exists()
    assert rows_of(out)[-1]["step"] < 240


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_saves_first(photographs, config, tmp_path, number, monkeypatch):
    out = tmp_path / "runs" / "tiny"
    before = signal.getsignal(number)  # a process started in the background ignores Ctrl-C
    step = UpscaleRecipe.step

    def told_at_the_third(self, batch, at):
        if at == 2:
            signal.raise_signal(number)
        return step(self, batch, at)

    monkeypatch.setattr(UpscaleRecipe, "step", told_at_the_third)
    assert train(config, photographs, out_dir=out).exists()
    assert rows_of(out)[-1]["step"] == 3
    assert signal.getsignal(number) == before


def test_the_average_follows_and_gives_the_weights_back():
    net = torch.nn.Linear(2, 1)
    average = Average(net, 0.9)
    before = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.add_(1)
    average.update(net)
    with average.applied(net):
        assert not torch.equal(net.weight, before + 1)
    assert torch.equal(net.weight, before + 1)


def test_the_rate_rises_then_falls():
    schedule = Schedule(minutes=1)
    rates = [schedule.rate(progress / 100) for progress in range(101)]
    assert rates[0] < rates[2]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(schedule.floor)


def test_pictures_come_back_as_they_were(photographs, tmp_path):
    for _ in range(2):  # decoded, then from the cache
        pictures = Pictures(photographs, tmp_path / "cache")
        for number, name in enumerate(pictures.names):
            original = np.asarray(Image.open(photographs / name).convert("RGB"))
            assert np.array_equal(pictures[number], original)
