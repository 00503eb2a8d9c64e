"""What our importers do not know, by the library spandrel: `make test-spandrel`, in its own environment."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from spandrel import ModelLoader
from spandrel.architectures.DRUNet import DRUNet
from spandrel.architectures.SPAN import SPAN

import models
from models.checkpoints import importers, load_public
from models.checkpoints.command import main


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def file(tmp_path) -> Path:
    torch.manual_seed(1)
    net = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=3)
    torch.save({"params_ema": net.state_dict()}, tmp_path / "span.pth")
    return tmp_path / "span.pth"


def take_in(file: Path, *options: str) -> int:
    return main(["import", str(file), "--name", "it", *options])


def test_a_network_of_its_own_becomes_a_model(own, file):
    assert take_in(file, "--licence", "CC0") == 0
    (row,) = tomllib.loads((own / "manifest.toml").read_text())["model"]
    assert (row["architecture"], row["arguments"], row["licence"]) == ("spandrel", {"factor": 3}, "CC0")
    net, known = models.load("it"), ModelLoader().load_from_file(file)
    image = torch.rand(2, 3, 13, 10)
    with torch.inference_mode():
        alone = torch.cat([known(sample) for sample in image.split(1)])
        torch.testing.assert_close(net(image, 3), alone)
        assert net(image, Fraction(27, 10)).shape == (2, 3, 35, 27)


def test_the_licence_is_asked_for(own, file, capsys):
    assert take_in(file) == 1
    assert "--licence" in capsys.readouterr().out
    assert not (own / "manifest.toml").exists()


@pytest.mark.parametrize("kind", ["of another task", "unknown"])
def test_what_does_not_enlarge_and_what_nobody_knows_is_said(own, tmp_path, capsys, kind):
    state = {"a.weight": torch.ones(2)}
    if kind == "of another task":
        net = DRUNet(in_nc=4, out_nc=3, nc=(8, 16, 16, 16), nb=2, act_mode="R", downsample_mode="strideconv")
        state = net.state_dict()
    torch.save(state, tmp_path / "it.pth")
    assert take_in(tmp_path / "it.pth", "--licence", "CC0") == 1
    said = capsys.readouterr().out
    assert ("DRUNet" if kind == "of another task" else "does not know it either") in said


def test_our_own_reading_of_esrgan_is_the_librarys():
    torch.manual_seed(2)
    net = models.create("esrgan", channels=16, blocks=2).eval()
    state = importers()["esrgan"].to_public(net)
    image = torch.rand(1, 3, 12, 9)
    with torch.inference_mode():
        theirs = ModelLoader().load_from_state_dict(dict(state))(image)
        torch.testing.assert_close(load_public("esrgan", state)(image, 4).clamp(0, 1), theirs)
