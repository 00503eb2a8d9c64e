"""Whole upscalers as convolutions, and the document's files and script."""

from __future__ import annotations

import re
from pathlib import Path

import onnxruntime
import pytest
import torch
from PIL import Image

import models
from models.checkpoints.command import main
from models.export import Whole
from tests.service.test_serve import photo, square_hole

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("meta-sr-small", {"channels": 8, "blocks": 1}),
        ("meta-rdn", {"channels": 8, "depth": 1, "layers": 1}),
        ("meta-edsr", {"channels": 8, "blocks": 1}),
    ],
)
def test_a_whole_factor_is_a_convolution(name, arguments, factor):
    torch.manual_seed(3)
    net = models.create(name, **arguments).eval()
    for parameter in net.parameters():  # none is to be at a zero that training has not left yet
        parameter.data += 0.05 * torch.randn_like(parameter)
    image = torch.rand(2, 3, 7, 9)
    with torch.no_grad():
        truth = net(image, float(factor))
        torch.testing.assert_close(Whole(net, factor)(image), truth, rtol=1e-4, atol=1e-4)


def test_a_network_of_one_factor_is_exported_at_that_one():
    net = models.create("srvgg", channels=4, layers=1, factor=2).eval()
    image = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(Whole(net, 2)(image), net(image, 2.0), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="by 2 and by nothing else"):
        Whole(net, 3)


def test_the_documents_files_and_script(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo(60, 80)).save("photo.jpg")
    Image.fromarray(square_hole(60, 80, 20)).save("mask.png")
    commands = re.findall(r"^retouch weights (.+)$", DOCUMENT, re.MULTILINE)
    assert len(commands) == 2
    for line in commands:
        assert main(line.split()) == 0
    [script] = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    exec(compile(script, "onnx.md", "exec"), {})
    with Image.open("large.png") as large:
        assert large.size == (160, 96)
    assert "sides: 16 or more, multiples of 16" in capsys.readouterr().out
    facts = onnxruntime.InferenceSession("double.onnx").get_modelmeta().custom_metadata_map
    assert (facts["scale"], facts["answer"], facts["model"]) == ("2", "picture", "meta-sr-small")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("patchmatch", "it has no ONNX form"),
        ("structure --scale 2", "only upscalers have a scale"),
        ("meta-sr-small --sketch", "takes no sketch"),
    ],
)
def test_what_cannot_be_exported_is_told(words, sentence, tmp_path, capsys):
    assert main(["export", *words.split(), "--onnx", str(tmp_path / "x.onnx")]) == 1
    assert sentence in capsys.readouterr().out
