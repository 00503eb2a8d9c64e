"""Inpainters learn: their holes, sketches and losses, and a short run of each kind of recipe."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import models
from models.features import TinyDarknet, Vgg19, load_features, perceptual_distance
from models.training import TrainingError, train
from models.training.configure import maker
from models.training.discriminators import near_hole
from models.training.inpaint import InpaintConfig, InpaintRecipe, Weights
from models.training.loop import Schedule
from models.training.losses import adversarial, reconstruction
from models.training.losses.patches import contrast, patches
from models.training.pictures import Pictures
from models.training.precision import autocast
from models.training.sketches import drop, edges

CONFIG = """
architecture = "structure"
[recipe]
batch = 2
side = 64
rate = 2e-3
sketches = 0.5
critic_width = 4
{options}
[recipe.arguments]
widths = [8, 8, 8]
blocks = 1
[recipe.loss]
{losses}
[schedule]
minutes = 5
steps = 60
log_every = 0
average = 0.9
"""


def test_a_sketch_is_the_outline():
    image = torch.zeros(1, 3, 40, 40)
    image[..., 10:30, 10:30] = 1
    lines = edges(image)
    assert lines[0, 0, 20, 8:12].any()
    assert not lines[0, 0, 14:26, 14:26].any()
    assert not lines[0, 0, :7].any()
    assert lines.mean() < 0.15


def test_sketches_are_dropped_whole_or_in_part():
    chance = torch.Generator().manual_seed(1)
    kept = drop(torch.ones(200, 1, 8, 8), 0.5, chance).mean((1, 2, 3))
    assert 60 < int((kept == 0).sum()) < 140
    assert ((kept > 0) & (kept < 1)).any()


def test_the_hole_and_the_rest_count_as_asked():
    truth, mask = torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., :2, :2] = 1
    answer = mask.expand(1, 3, 8, 8) * 0.5
    assert reconstruction.l1(answer, truth, mask, 6, 1) == pytest.approx(3.0)
    assert reconstruction.l1(0.5 - answer, truth, mask, 6, 1) == pytest.approx(0.5)


def test_the_discount_falls_from_the_rim():
    mask = torch.zeros(1, 1, 9, 9)
    mask[..., 2:7, 2:7] = 1
    weight = reconstruction.discount(mask, gamma=0.9)[0, 0, 4]
    assert weight.tolist() == pytest.approx([1, 1, 0.9, 0.81, 0.729, 0.81, 0.9, 1, 1])


def test_total_variation_is_that_of_the_hole():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 6:10, 6:10] = 1
    noise = torch.rand(1, 3, 16, 16)
    assert reconstruction.total_variation(noise * (1 - mask) * (mask == 1), mask) == 0
    assert reconstruction.total_variation(noise * mask, mask) > 0


@pytest.mark.parametrize("kind", adversarial.CRITICS)
def test_critic_and_generator_want_opposite_things(kind):
    real, fake = torch.full((4,), 2.0), torch.full((4,), -2.0)
    assert adversarial.CRITICS[kind](real, fake) < adversarial.CRITICS[kind](fake, real)
    assert adversarial.GENERATORS[kind](real) < adversarial.GENERATORS[kind](fake)


def test_the_penalty_is_zero_for_a_gradient_of_one():
    real, fake, mask = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4), torch.ones(3, 1, 4, 4)
    chance = torch.Generator().manual_seed(0)
    unit = adversarial.gradient_penalty(lambda x: x.sum() / 4, real, fake, mask, chance)
    assert unit == pytest.approx(0, abs=1e-6)
    assert adversarial.gradient_penalty(lambda x: x.sum(), real, fake, mask, chance) == pytest.approx(
        9, rel=1e-3
    )


@pytest.mark.parametrize("kind", [TinyDarknet, Vgg19])
def test_feature_files_are_told_by_their_keys(kind, tmp_path):
    file = tmp_path / "features.safetensors"
    save_file({key: value.half() for key, value in kind().state_dict().items()}, file)
    net = load_features(file)
    assert isinstance(net, kind)
    one, other = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    assert perceptual_distance(net(one), net(one)).tolist() == [0, 0]
    assert (perceptual_distance(net(one), net(other)) > 0).all()


def test_torchvisions_vggs_are_read_as_they_are(tmp_path):
    def block(entering, leaving):
        return [
            nn.Conv2d(entering, leaving, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(leaving, leaving, 3, padding=1),
            nn.ReLU(),
        ]

    layers = nn.Sequential(*block(3, 4), nn.MaxPool2d(2), *block(4, 6), nn.MaxPool2d(2), *block(6, 8))
    state = {f"features.{key}": value for key, value in layers.state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg.pth")
    image = torch.rand(2, 3, 32, 32)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    x, wanted = (image - mean) / deviation, []
    for number, layer in enumerate(layers):
        x = layer(x)
        if number in (1, 6, 11):
            wanted.append(x)
    for found, right in zip(load_features(tmp_path / "vgg.pth")(image), wanted, strict=True):
        torch.testing.assert_close(found, right)


@pytest.fixture
def features(tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "features.safetensors"
    save_file(TinyDarknet().state_dict(), file)
    return file


@pytest.fixture
def photographs(tmp_path):
    """Smooth dark scenes: what a tiny network learns of pictures within a second."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rows, columns = np.mgrid[0:150, 0:160]
    for number in range(3):
        planes = [rows / 3, columns / 3, (rows + columns) / 6 + 20 * number]
        Image.fromarray(np.stack(planes, -1).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


RECIPES = {
    "reconstruction": ("", "coarse = 1.0"),
    "spectrum": ("growing = 30", "frequency = 0.5"),
    "patches": ("", "patches = 1.0\ncontrast = 1.0"),
    "perceptual": ("", "perceptual = 1.0\nstyle = 1.0\nsmooth = 0.1"),
    "hinge": ("", "adversarial = 0.01\nmatching = 0.1"),
    "non-saturating": ('adversary = "non-saturating"', "adversarial = 0.01\nr1 = 0.001"),
    "wasserstein": (
        'adversary = "wasserstein"\ncritic = "global-local"\ndiscount = 0.99',
        "adversarial = 0.001\npenalty = 10.0",
    ),
}


def l1_of(net, photographs, tmp_path):
    """Of one batch, always the same."""
    pictures = Pictures(photographs, tmp_path / "cache")
    recipe = InpaintRecipe("structure", InpaintConfig(batch=12, side=64), pictures, torch.device("cpu"), None)
    truth, mask, *_ = recipe.prepare(recipe.batch(0, np.random.default_rng(0)))
    with torch.no_grad():
        return float(reconstruction.l1(net(truth, mask), truth, mask, 6, 1))


@pytest.mark.parametrize("kind", RECIPES)
def test_a_short_run_lowers_the_loss(kind, photographs, features, tmp_path, monkeypatch):
    options, losses = RECIPES[kind]
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG.format(options=options, losses=losses))
    out = tmp_path / "runs" / kind
    weights = train(config, photographs, out_dir=out, features=features)
    with (out / "log.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 60
    net = models.create("structure", widths=[8, 8, 8], blocks=1).eval()
    untrained = l1_of(net, photographs, tmp_path)
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(weights.parent))
    net = models.load(kind)  # the run's folder is named for it
    assert l1_of(net, photographs, tmp_path) < 0.9 * untrained
    assert (out / "sample.png").exists()


def shrunk(config):
    """The same recipe, small enough to step here."""
    arguments = config["recipe"].get("arguments", {})
    most = {"width": 4, "blocks": 4, "side": 128}
    small = {name: min(value, most.get(name, value)) for name, value in arguments.items()}
    asked = config["recipe"] | {"batch": 2, "arguments": small}
    if "side" in asked:
        asked |= {"side": 128, "critic_width": 4, "compile": False}
    return config | {"recipe": asked}


def test_patches_are_compared_wherever_they_lie():
    chance = torch.Generator()
    texture = torch.rand(2, 3, 96, 96, generator=chance.manual_seed(1))
    mask = torch.zeros(2, 1, 96, 96)
    mask[..., 16:80, 16:80] = 1
    candidates = {
        "same": texture,
        "moved": texture.roll((5, 9), (2, 3)),
        "flat": torch.full_like(texture, 0.5),
    }
    away = {
        name: float(patches(fill, texture, mask, chance.manual_seed(2))) for name, fill in candidates.items()
    }
    assert away["same"] == 0
    assert away["moved"] < away["flat"] / 5
    outside = torch.where(mask > 0, texture, 1.0)
    assert float(patches(outside, texture, mask, chance)) < away["flat"] / 5


def test_contrast_is_compared_without_detail():
    chance = torch.Generator()
    coarse = torch.rand(2, 3, 24, 24, generator=chance.manual_seed(1))
    truth = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    mask = torch.zeros(2, 1, 96, 96)
    mask[..., 16:80, 16:80] = 1
    checks = 0.1 * (-1) ** (torch.arange(96)[:, None] + torch.arange(96))
    away = {
        name: float(contrast(fill, truth, mask, chance.manual_seed(2)))
        for name, fill in {
            "detail": truth + checks,
            "moved": truth.roll(8, 2),
            "pale": truth / 2 + 0.25,
        }.items()
    }
    assert away["detail"] < 1e-4
    assert away["moved"] < away["pale"] / 4
    scratch = torch.zeros(2, 1, 96, 96)
    scratch[..., 40, :] = 1
    assert torch.isfinite(contrast(truth, truth, scratch, chance))


def test_perceptual_losses_say_what_they_need(photographs, tmp_path):
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG.format(options="", losses="perceptual = 1.0"))
    with pytest.raises(TrainingError, match="--features"):
        train(config, photographs, out_dir=tmp_path / "out")


def test_a_run_may_begin_with_the_weights_of_another(photographs, tmp_path, monkeypatch):
    config = tmp_path / "start.toml"
    config.write_text(
        'architecture = "structure"\n[recipe]\nbatch = 1\nside = 32\n'
        "[recipe.arguments]\nwidths = [4, 4, 4]\nblocks = 1\n[schedule]\nminutes = 1\nsteps = 2\n"
    )
    first = train(config, photographs, out_dir=tmp_path / "first")
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(first.parent))
    config.write_text(config.read_text().replace("[recipe]", "[recipe]\nrate = 0.0"))
    second = train(config, photographs, out_dir=tmp_path / "second", start="first")
    assert second.read_bytes() == first.read_bytes()
    shallow = config.read_text()
    config.write_text(shallow.replace("blocks = 1", "blocks = 2"))
    kept = load_file(first)
    deeper = load_file(train(config, photographs, out_dir=tmp_path / "deeper", start="first"))
    assert kept.keys() < deeper.keys()
    assert all(torch.equal(deeper[key], value) for key, value in kept.items())
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(tmp_path / "deeper"))
    config.write_text(shallow)
    with pytest.raises(TrainingError, match=r"no place for 'down1\.1"):
        train(config, photographs, out_dir=tmp_path / "third", start="deeper")
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(first.parent))
    config.write_text(shallow.replace("[4, 4, 4]", "[4, 4, 8]"))
    with pytest.raises(TrainingError, match="'first' do not fit"):
        train(config, photographs, out_dir=tmp_path / "third", start="first")
    with pytest.raises(TrainingError, match="no model 'nothing'"):
        train(config, photographs, out_dir=tmp_path / "third", start="nothing")


def test_processors_that_imitate_bfloat16_learn_in_float32(monkeypatch):
    for able in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        with autocast(torch.device("cpu")):
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if able else torch.float32)


def test_side_outputs_learn_too(photographs, tmp_path):
    config = InpaintConfig(
        batch=1, side=64, loss=Weights(pyramid=0.5), arguments={"width": 4, "depth": 6}, rate=1e-3
    )
    pictures = Pictures(photographs, tmp_path / "cache")
    recipe = InpaintRecipe("pen-net", config, pictures, torch.device("cpu"), None)
    batch = recipe.batch(0, np.random.default_rng(0))
    first, *_, last = (recipe.step(batch, step) for step in range(12))
    assert last["pyramid"] < first["pyramid"]
    assert last["l1"] < first["l1"]


def test_coarse_stages_learn_too(photographs, tmp_path):
    config = InpaintConfig(batch=1, side=32, sketches=0.5, arguments={"width": 4}, rate=2e-3)
    pictures = Pictures(photographs, tmp_path / "cache")
    recipe = InpaintRecipe("deepfill-v2", config, pictures, torch.device("cpu"), None)
    batch = recipe.batch(0, np.random.default_rng(0))
    first, *_, last = (recipe.step(batch, step) for step in range(12))
    assert last["coarse"] < first["coarse"]
    assert last["l1"] < first["l1"]


def test_the_local_critic_looks_where_the_hole_is():
    x = torch.zeros(3, 5, 32, 48)
    x[0, 3, 20:26, 30:38] = 1  # its middle is (22.5, 33.5)
    x[1, 3, :2, :2] = 1
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    x[:, 0], x[:, 1] = rows, columns
    near = near_hole(x)
    assert near.shape == (3, 5, 16, 24)
    assert near[:, 0, 0, 0].tolist() == [14, 0, 0]
    assert near[:, 1, 0, 0].tolist() == [22, 0, 0]
    assert near[0, 3].sum() == 6 * 8


# Those that learn from a teacher have their own test, where there are lessons to learn from.
ALL = sorted(Path("configs").glob("*.toml"))
CONFIGS = [file for file in ALL if "[recipe.lessons]" not in file.read_text()]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_configs_make_recipes_of_files_that_ship(file, photographs, features, tmp_path):
    config = tomllib.loads(file.read_text())
    recipe = maker(config)(shrunk(config), photographs, tmp_path / "cache", torch.device("cpu"), features)
    Schedule(**config["schedule"])
    rng = np.random.default_rng(0)
    assert all(
        torch.isfinite(torch.as_tensor(loss)) for loss in recipe.step(recipe.batch(0, rng), 0).values()
    )
    with torch.device("meta"):
        net = models.create(config["architecture"], **config["recipe"].get("arguments", {}))
    assert 2 * sum(value.numel() for value in net.state_dict().values()) <= 16e6  # bytes, as float16
