"""The command line, on real files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.cli import main
from tests.service.test_serve import photo, square_hole


@pytest.fixture
def folder(tmp_path):
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        Image.fromarray(photo(40, 50, number)).save(tmp_path / "photos" / f"{number}.png")
        Image.fromarray(square_hole(40, 50, 12)).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_inpaint_and_upscale_one_picture(folder, capsys):
    photo_path, mask = str(folder / "photos/0.png"), str(folder / "masks/0.png")
    assert main(["inpaint", photo_path, mask, "-o", str(folder / "filled.png")]) == 0
    answer, image = read(folder / "filled.png"), photo(40, 50)
    known = square_hole(40, 50, 12) == 0
    assert np.array_equal(answer[known], image[known])
    assert not np.array_equal(answer, image)
    assert main(["upscale", photo_path, "--scale", "1.5", "-o", str(folder / "large.png")]) == 0
    assert read(folder / "large.png").shape == (60, 75, 3)
    assert "75x60" in capsys.readouterr().out


def test_a_batch_resumes_and_sums_up_its_failures(folder, capsys):
    (folder / "photos/broken.png").write_bytes(b"no picture")
    command = ["batch", "inpaint", str(folder / "photos"), "--masks", str(folder / "masks")]
    command += ["-o", str(folder / "out")]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "3 done, 0 were there already, 1 failed" in said.out
    assert "broken.png" in said.err
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    (folder / "photos/broken.png").unlink()
    assert main(command) == 0
    assert "0 done, 3 were there already, 0 failed" in capsys.readouterr().out


def test_bench_measures_what_is_asked_for(capsys):
    assert main(["bench", "--model", "patchmatch", "--side", "48", "--seconds", "0"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    model, picture, latency, rate = (cell.strip() for cell in line.strip("|").split("|"))
    assert (model, picture) == ("patchmatch", "48x48")
    assert float(latency) > 0
    assert float(rate) > 0
    assert main(["bench", "--model", "none"]) == 1


def test_mistakes_are_told_in_one_line(folder, capsys):
    photo_path = str(folder / "photos/0.png")
    for wrong in (
        ["upscale", photo_path, "--scale", "9", "-o", "x.png"],
        ["upscale", str(folder / "none.png"), "--scale", "2", "-o", "x.png"],
        ["upscale", photo_path, "--scale", "2", "--model", "none", "-o", "x.png"],
    ):
        assert main(wrong) == 1
        assert capsys.readouterr().err.startswith("retouch: ")


@pytest.mark.parametrize("config", ["meta-sr-small", "structure"])
def test_a_training_that_cannot_begin_says_why_in_one_line(folder, capsys, config):
    Image.fromarray(photo(300, 300)).save(folder / "photo.jpg")
    wrong = {"meta-sr-small": ["--start", "nothing"], "structure": []}[config]
    where = ["--data", str(folder), "--output", str(folder / "run")]
    assert main(["train", f"configs/{config}.toml", *where, *wrong]) == 1
    reason = {"meta-sr-small": "no model 'nothing'", "structure": "--features"}[config]
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_models_are_listed(capsys):
    assert main(["models"]) == 0
    assert "patchmatch" in capsys.readouterr().out
