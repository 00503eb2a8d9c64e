"""Lessons are made once, whatever stops their making; a network learns to restore from them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import models
from models.checkpoints import importers, load_public
from models.imresize import imresize
from models.training import train
from models.training.errors import TrainingError
from models.training.pictures import Pictures
from models.training.restore import RestoreConfig, RestoreRecipe
from models.training.teacher import Lessons, LessonsConfig, load_teacher, main

CPU = torch.device("cpu")
SMALL = LessonsConfig(side=24, seed=3)
CONFIG = """
architecture = "meta-sr-small"
[recipe]
batch = 2
patch = 12
rate = 4e-3
frequency = 0.1
arguments = { channels = 16, blocks = 2, hidden = 8 }
[recipe.lessons]
side = 24
seed = 3
[schedule]
minutes = 5
steps = 6
log_every = 0
"""


def nearest(small):
    """A teacher that is known: it repeats pixels."""
    return small.repeat(4, 0).repeat(4, 1)


class Interrupted(Exception):
    pass


@pytest.fixture
def pictures(photographs, tmp_path):
    return Pictures(photographs, tmp_path / "cache")


def teacher(folder, **arguments):
    """A public file of such a network."""
    torch.manual_seed(0)
    file = folder / "teacher.safetensors"
    save_file(importers()["esrgan"].to_public(models.create("esrgan", **arguments)), file)
    return file


@pytest.fixture
def teacher_file(tmp_path):
    return teacher(tmp_path, channels=8, growth=4, blocks=2)


def test_the_teacher_is_read_from_its_file_and_enlarges_by_four(teacher_file):
    small = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    net = load_public("esrgan", load_file(teacher_file))
    image = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = net(image, 4)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    answer = load_teacher(teacher_file, CPU)(small)
    assert answer.shape == (36, 28, 3)
    assert np.abs(answer - expected).max() < 1


def test_a_teacher_of_another_factor_is_refused(tmp_path):
    file = teacher(tmp_path, channels=4, growth=2, blocks=1, doublings=1)
    with pytest.raises(TrainingError, match="enlarge by 4, not by 2"):
        load_teacher(file, CPU)


def test_lessons_go_on_where_they_were_stopped(pictures, tmp_path):
    whole = Lessons(tmp_path / "whole", SMALL)
    whole.fill(pictures, nearest, 5)
    answers = []

    def stopped(small):
        answers.append(small)
        if len(answers) == 3:
            raise Interrupted
        return nearest(small)

    lessons = Lessons(tmp_path / "parts", SMALL)
    with pytest.raises(Interrupted):
        lessons.fill(pictures, stopped, 5)
    lessons = Lessons(tmp_path / "parts", SMALL)
    assert len(lessons) == 2
    with lessons.file.open("ab") as file:
        file.write(b"half a lesson")  # as a machine leaves it that went off
    assert len(Lessons(tmp_path / "parts", SMALL)) == 2
    lessons.fill(pictures, nearest, 5)
    assert lessons.file.read_bytes() == whole.file.read_bytes()
    lessons.fill(pictures, stopped, 5)  # nothing to do: the teacher is not asked
    assert len(answers) == 3


def test_lessons_of_another_config_are_not_taken_up(pictures, tmp_path):
    Lessons(tmp_path, SMALL).fill(pictures, nearest, 1)
    assert len(Lessons(tmp_path, SMALL)) == 1
    for other in (replace(SMALL, seed=4), replace(SMALL, degradations={"clean": 0.5})):
        assert not len(Lessons(tmp_path, other))


def test_a_lesson_is_a_picture_its_answer_and_its_truth(pictures, tmp_path):
    config = replace(SMALL, native=0.0, degradations={"clean": 1.0})
    lessons = Lessons(tmp_path, config)
    lessons.fill(pictures, nearest, 3)
    for lesson in lessons.records:
        assert np.array_equal(lesson["answer"], nearest(lesson["small"]))
        assert lesson["clean"]
        assert 2 <= lesson["known"] <= 4
        # The truth, made as small, is the small picture: it is the same part of the photograph.
        assert np.abs(imresize(lesson["truth"], 1 / 4).astype(int) - lesson["small"]).mean() < 4


def recipe(photographs, cache, **config):
    lessons = {"side": 24, "seed": 3, "degradations": config.pop("degradations", {})}
    made = Lessons(cache, LessonsConfig(**lessons))
    made.fill(Pictures(photographs, cache), nearest, 4)
    asked = RestoreConfig(batch=3, patch=12, lessons=lessons, **config)
    return RestoreRecipe("meta-sr-small", asked, photographs, cache, CPU, None)


def test_the_teachers_colours_are_not_learned(photographs, tmp_path):
    made = recipe(photographs, tmp_path, exact=0.0, same=0.0, seen=0.0)
    dark = made.lessons.records.copy()
    dark["answer"] //= 2
    made.lessons.read = lambda: dark
    for step in range(4):
        _, small, target, _ = made.batch(step, np.random.default_rng(step))
        assert float((target.mean((2, 3)) - small.float().mean((2, 3))).abs().max()) < 3


@pytest.mark.parametrize("same", [0.0, 1.0])
def test_targets_are_the_answers_made_smaller(photographs, tmp_path, same):
    made = recipe(photographs, tmp_path, exact=0.0, same=same, whole=1.0, seen=0.0)
    scales = set()
    for step in range(8):
        scale, small, target, seen = made.batch(step, np.random.default_rng(step))
        scales.add(scale)
        assert target.shape[-1] == 12 * scale
        assert torch.equal(target, seen)
        # Repeated pixels, made smaller to their own size again, are near the small picture: these stripes are
        # 50 and more away from themselves moved by a pixel.
        back = F.avg_pool2d(target.float(), int(scale))
        assert float((back - small).abs().mean()) < 10
    assert scales == ({Fraction(1)} if same else {Fraction(2), Fraction(3), Fraction(4)})


def test_the_truth_is_a_target_where_it_is_known(photographs, tmp_path):
    clean = {"clean": 1.0}
    made = recipe(photographs, tmp_path, exact=0.0, same=1.0, degradations=clean)
    _, small, target, seen = made.batch(0, np.random.default_rng(0))
    assert torch.equal(target, seen)
    assert float((target - small).abs().mean()) < 10
    plain = {"clean": 0.0, "plain": 1.0}
    damaged = recipe(photographs, tmp_path, exact=0.0, same=1.0, seen=1.0, degradations=plain)
    _, small, target, seen = damaged.batch(0, np.random.default_rng(0))
    assert float((target - seen).abs().mean()) > 1  # the answer, and the truth


def test_some_samples_are_of_one_colour(photographs, tmp_path):
    made = recipe(photographs, tmp_path, exact=0.0, flat=0.5)
    flat = 0
    for step in range(8):
        batch = made.batch(step, np.random.default_rng(step))
        for small, target, seen in zip(*batch[1:], strict=True):
            if not float((small.float() - small[:, :1, :1]).abs().max()):
                flat += 1
                colour = small[:, :1, :1].float()
                assert torch.equal(target, colour.expand_as(target))
                assert torch.equal(seen, target)
    assert 6 <= flat <= 18


def test_a_share_of_batches_is_clean(photographs, tmp_path):
    made = recipe(photographs, tmp_path, exact=0.5)
    exact = sum(
        torch.equal(target, seen) and target.dtype == torch.uint8
        for _, _, target, seen in (made.batch(step, np.random.default_rng(step)) for step in range(24))
    )
    assert 4 <= exact <= 20


def test_a_perceptual_loss_needs_features(photographs, tmp_path):
    with pytest.raises(TrainingError, match="--features"):
        recipe(photographs, tmp_path, perceptual=0.1)


def test_a_critic_learns_beside_the_network(photographs, tmp_path):
    made = recipe(photographs, tmp_path, exact=0.0, adversarial=0.1, critic_width=8)
    before = {name: [x.clone() for x in module.parameters()] for name, module in made.modules.items()}
    losses = made.step(made.batch(0, np.random.default_rng(0)), 0)
    assert losses.keys() == {"l1", "luma", "adversarial", "critic", "gradient"}
    for name, module in made.modules.items():
        assert any(not torch.equal(x, y) for x, y in zip(before[name], module.parameters(), strict=True))


def test_the_commands_make_lessons_and_train_on_them(photographs, teacher_file, tmp_path, monkeypatch):
    config = tmp_path / "photo.toml"
    config.write_text(CONFIG)
    out = tmp_path / "runs" / "photo"
    with pytest.raises(TrainingError, match="no lessons"):
        train(config, photographs, out_dir=out)
    command = ["teacher", str(config), "--data", str(photographs), "--teacher", str(teacher_file)]
    monkeypatch.setattr("sys.argv", [*command, "--cache", str(out.parent / "cache"), "--count", "2"])
    main()
    assert load_file(train(config, photographs, out_dir=out))["head.weight"].shape == (16, 3, 3, 3)
    assert (out / "sample.png").exists()
