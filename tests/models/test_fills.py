import numpy as np
import pytest
import torch
from PIL import Image

from models.evaluation.command import main
from models.evaluation.fills import gradient_ratio, l1_percent, line_error, patch_distance
from models.evaluation.inpaint import by_network, evaluate_inpaint, pairs
from models.network import Network, SizeRule

RNG = np.random.default_rng(3)


@pytest.fixture
def texture():
    return RNG.integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture
def hole():
    hole = np.zeros((64, 64), bool)
    hole[16:48, 16:48] = True
    return hole


def test_the_truth_is_at_no_distance(texture, hole):
    assert l1_percent(texture, texture, hole) == 0
    assert patch_distance(texture, texture, hole) == 0
    assert gradient_ratio(texture, texture, hole) == 1
    assert line_error(texture, texture, hole) == pytest.approx(0, abs=1e-6)


def test_only_the_hole_counts_for_l1(texture, hole):
    other = texture.copy()
    other[~hole] = 0
    assert l1_percent(other, texture, hole) == 0
    other[hole] = 255 - texture[hole]
    assert l1_percent(other, texture, hole) > 10


def test_blur_loses_gradient_and_the_same_texture_elsewhere_is_near(texture, hole):
    flat = np.full_like(texture, 128)
    moved = np.roll(texture, 7, axis=1)
    assert gradient_ratio(flat, texture, hole) == 0
    assert gradient_ratio(moved, texture, hole) == pytest.approx(1, abs=0.1)
    assert patch_distance(moved, texture, hole) < patch_distance(flat, texture, hole) / 5


def test_lines_that_bend_are_told_from_lines_that_fade(hole):
    ramp = np.repeat(np.linspace(0, 250, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    assert line_error(ramp // 2, ramp, hole) == pytest.approx(0, abs=1)
    assert line_error(ramp.transpose(1, 0, 2), ramp, hole) == pytest.approx(90, abs=1)
    assert line_error(ramp[:, ::-1], ramp, hole) == pytest.approx(180, abs=1)


@pytest.fixture
def folder(tmp_path, texture, hole):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(2):
        Image.fromarray(np.roll(texture, number, 0)).save(tmp_path / f"images/{number}.png")
        Image.fromarray(hole.astype(np.uint8) * 255).save(tmp_path / f"masks/{number}.png")
    return tmp_path


def test_the_command_judges_models_beside_opencv(folder, capsys):
    out = folder / "answer"
    assert main(["inpaint", str(folder), "--model", "patchmatch", "--device", "cpu", "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    for method in ("telea", "navier-stokes", "patchmatch"):
        assert f"| all | 2 | {method} |" in printed
    assert out.with_name(f"{out.name}.md").read_text() == printed
    with Image.open(out.with_name(f"{out.name}.jpg")) as sheet:
        assert sheet.size == (256 * 5, 256 * 2)


def test_a_network_is_never_shown_what_is_in_the_hole(folder):
    class Echo(Network):
        sides = SizeRule()

        def forward(self, image, mask):
            return image + 0.25

    _, truth, hole = pairs(folder)[0]
    answer = by_network(Echo(), torch.device("cpu"))(truth, hole)
    assert (answer[hole] == 64).all()


def test_a_network_of_one_size_is_shown_a_smaller_picture(texture, hole):
    class Known(Network):
        """The mean of what is known, everywhere."""

        sides = SizeRule(32, 32, 32)

        def forward(self, image, mask):
            assert image.shape[-2:] == mask.shape[-2:] == (32, 32)
            mean = (image * (1 - mask)).sum((2, 3), keepdim=True) / (1 - mask).sum((2, 3), keepdim=True)
            return mean.expand_as(image)

    answer = by_network(Known(), torch.device("cpu"))(np.where(hole[..., None], 255, texture), hole)
    assert answer.shape == texture.shape
    assert np.abs(answer[0, 0] - texture[~hole].mean(0)).max() <= 1
    wide = by_network(Known(), torch.device("cpu"))(texture[:32], hole[:32])
    assert wide.shape == (32, 64, 3)


def test_bands_hold_the_pictures_of_their_share(folder):
    answer = evaluate_inpaint(folder, models=[], device="cpu")
    shares = {row["holes"] for row in answer["bands"]}
    assert shares == {"all", "20% to 30%"}
