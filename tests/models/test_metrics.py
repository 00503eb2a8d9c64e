"""The measures are the field's: known values, and the benchmarks' published bicubic rows."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import models
from models.evaluation import evaluate_upscale
from models.evaluation.command import main
from models.evaluation.metrics import luma, psnr, shave, ssim
from models.evaluation.upscale import CLEAN, Damage, bicubic, by_network, lanczos, pair, pictures_in
from models.features import TinyDarknet


@pytest.fixture
def noise():
    return np.random.default_rng(3).integers(0, 256, (40, 44, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    rows, columns = np.mgrid[0:61, 0:67]
    waves = 127 + 60 * np.sin(rows / 5) + 60 * np.cos(columns / 7)
    waves += np.random.default_rng(5).normal(0, 5, waves.shape)
    picture = Image.fromarray(waves.astype(np.uint8)).convert("RGB")
    picture.save(tmp_path / "img_001.png")
    picture.save(tmp_path / "img_001_lr_x2.png")
    return tmp_path


def test_luma_spans_16_to_235():
    ends = luma(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8))
    assert ends[0] == pytest.approx([16, 235], abs=1e-2)


def test_psnr_of_a_known_error(noise):
    wrong = noise.astype(float) + 10
    assert psnr(noise, wrong) == pytest.approx(20 * np.log10(25.5))
    assert psnr(noise, noise) == float("inf")


def test_ssim_is_one_for_equals_and_falls_with_noise(noise):
    plane = luma(noise)
    assert ssim(plane, plane) == pytest.approx(1)
    slightly, much = (plane + level * np.random.default_rng(1).normal(size=plane.shape) for level in (5, 50))
    assert 1 > ssim(plane, slightly) > ssim(plane, much)


def test_ssim_of_flat_planes_is_the_luminance_term():
    one, other = np.full((20, 20), 100.0), np.full((20, 20), 110.0)
    constant = (0.01 * 255) ** 2
    assert ssim(one, other) == pytest.approx((2 * 100 * 110 + constant) / (100**2 + 110**2 + constant))
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(one[:8], other[:8])


def test_shave_takes_the_border_off(noise):
    assert np.array_equal(shave(noise, 3), noise[3:-3, 3:-3])


@pytest.mark.parametrize("scale", [Fraction(3, 2), Fraction(2), Fraction(27, 10), Fraction(4)])
def test_a_pair_keeps_the_scale(noise, scale):
    small, truth = pair(noise, scale)
    assert truth.shape[:2] == tuple(int(side * scale) for side in small.shape[:2])
    assert np.array_equal(truth, noise[: truth.shape[0], : truth.shape[1]])
    for enlarge in (bicubic, lanczos):
        assert enlarge(small, scale, (truth.shape[0], truth.shape[1])).shape == truth.shape


def test_prepared_pairs_are_not_pictures(folder):
    assert [path.name for path in pictures_in(folder)] == ["img_001.png"]


def test_the_untrained_network_scores_as_bicubic(folder, tmp_path):
    torch.manual_seed(0)
    net = models.create("meta-sr-small", channels=8, blocks=1, hidden=4)
    out = tmp_path / "out-1.5" / "table"
    answer = evaluate_upscale(
        {"waves": folder}, models=[], scales=[2.0, 2.7], out=out, device="cpu", networks={"ours": net}
    )
    score = {(row["method"], row["scale"]): row["psnr"] for row in answer["rows"]}
    for scale in (2.0, 2.7):  # they differ by bicubic's rounding between its passes alone
        assert score["ours", scale] == pytest.approx(score["bicubic", scale], abs=0.1)
        assert score["bicubic", scale] > 30
    assert json.loads(out.with_name(f"{out.name}.json").read_text()) == answer
    assert out.with_name(f"{out.name}.md").read_text().count("| waves |") == 2


def test_a_network_enlarges_to_the_size_asked_for(noise):
    net = models.create("meta-sr-small", channels=8, blocks=1, hidden=4)
    enlarge = by_network(net, torch.device("cpu"))
    assert enlarge(noise, Fraction(5, 2), (99, 108)).shape == (99, 108, 3)


def test_the_command_prints_and_writes_the_table(folder, tmp_path, capsys):
    out = tmp_path / "table-1.5"
    arguments = ["upscale", str(folder), "--scale", "4", "--device", "cpu", "--output", str(out)]
    assert main([*arguments, "--model", "meta-sr-small"]) == 0
    printed = capsys.readouterr().out
    assert "| bicubic | lanczos | meta-sr-small |" in printed
    assert printed == out.with_name(f"{out.name}.md").read_text()


@pytest.fixture
def eyes(tmp_path):
    torch.manual_seed(0)
    net = TinyDarknet()
    with torch.no_grad():
        for weights in net.parameters():
            # As loud as what enters: with torch's own beginning nothing is left of the picture but biases.
            weights.copy_(torch.randn_like(weights) / weights[0].numel() ** 0.5 if weights.ndim > 1 else 0)
    file = tmp_path / "eyes.safetensors"
    save_file(net.state_dict(), file)
    return file


@pytest.mark.parametrize(
    ("more", "less"),
    [(Damage(jpeg=20), Damage(jpeg=80)), (Damage(noise=20), Damage(noise=5)), (Damage(webp=5), CLEAN)],
)
def test_more_damage_is_further_from_the_truth(folder, eyes, more, less):
    scores = []
    for damage in (more, less):
        answer = evaluate_upscale(
            {"waves": folder}, [], [1.0, 2.0], damage=damage, features=eyes, device="cpu"
        )
        assert answer["small pictures"] == str(damage)
        scores.append({(row["scale"], row["method"]): row for row in answer["rows"]})
    assert scores[0].keys() == {(scale, name) for scale in (1.0, 2.0) for name in ("bicubic", "lanczos")}
    for key, worse in scores[0].items():
        assert worse["distance"] > scores[1][key]["distance"]
        assert (worse["psnr"] or math.inf) < (scores[1][key]["psnr"] or math.inf)


def test_an_undamaged_picture_at_its_own_size_is_equal_to_the_truth(folder, eyes, tmp_path):
    out = tmp_path / "table"
    answer = evaluate_upscale({"waves": folder}, [], [1.0], out=out, features=eyes, device="cpu")
    row = answer["rows"][0]
    assert (row["psnr"], row["ssim"], row["distance"]) == (None, 1, 0)  # JSON has no infinity
    assert "| equal / 1.0000 / 0.000 |" in out.with_name("table.md").read_text()


def test_the_command_damages_the_small_pictures(folder, eyes, tmp_path, capsys):
    out = tmp_path / "table"
    damage = ["--jpeg", "40", "--noise", "3", "--webp", "50", "--features", str(eyes)]
    arguments = ["upscale", str(folder), "--scale", "2", "--device", "cpu", "--model", "meta-sr-small"]
    assert main([*arguments, *damage, "--output", str(out)]) == 0
    assert (
        json.loads(out.with_name("table.json").read_text())["small pictures"] == "noise 3, JPEG 40, WebP 50"
    )
    assert capsys.readouterr().out.splitlines()[-1].count(" / ") == 6
