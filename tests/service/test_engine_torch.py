"""Networks on the device: integers in, integers out, and nothing but the hole changed."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models import registry
from service.engine.catalogue import Catalogue
from service.engine.cuda.arithmetic import HALVES, arithmetic_of
from service.engine.isolation import run_isolated
from service.engine.runtimes.resident import NotFinite, TorchResident
from service.engine.runtimes.torch_runtime import TorchRuntime, devices
from service.engine.windows import InpaintWindow, UpscaleTile
from service.errors import ComputeFailed, NotFound, UsageError
from service.formats import is_lossy
from tests.service.toys import ToyEnlarge, ToyFill, install_toys

CPU = torch.device("cpu")


def random_window(seed: int, dtype: type = np.uint8, sketch: bool = False) -> InpaintWindow:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, np.iinfo(dtype).max, (32, 32, 3), endpoint=True).astype(dtype)
    lines = (random.random((32, 32)) < 0.1).astype(np.uint8) if sketch else None
    return InpaintWindow(pixels, (random.random((32, 32)) < 0.3).astype(np.uint8), lines)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_outside_the_hole_come_back_exact(dtype):
    window = random_window(1, dtype)
    (output,) = TorchResident(ToyFill(), CPU).run([window])
    assert output.dtype == dtype
    assert np.array_equal(output[window.hole == 0], window.pixels[window.hole == 0])
    assert not np.array_equal(output[window.hole == 1], window.pixels[window.hole == 1])


def test_a_sketch_reaches_the_network():
    window = random_window(2, sketch=True)
    (output,) = TorchResident(ToyFill(), CPU).run([window])
    assert (output[(window.hole & window.sketch) == 1] == 0).all()


def test_a_batch_answers_as_its_windows_alone_do():
    resident = TorchResident(ToyFill(), CPU)
    windows = [random_window(seed) for seed in range(6)]
    for together, window in zip(resident.run(windows), windows, strict=True):
        assert np.abs(together.astype(int) - resident.run([window])[0]).max() <= 1


def test_tiles_of_different_scales_share_a_batch():
    resident = TorchResident(ToyEnlarge(), CPU)
    random = np.random.default_rng(3)
    tiles = [
        UpscaleTile(
            random.integers(0, 255, (24, 24, 3)).astype(np.uint8),
            (Fraction(scale), Fraction(scale)),
            (10, 20),
            (int(12 * scale), int(22 * scale), 5, 7),
        )
        for scale in (1.5, 2.0, 3.25)
    ]
    assert len({tile.shape for tile in tiles}) == 1
    for together, tile in zip(resident.run(tiles), tiles, strict=True):
        assert together.shape == (5, 7, 3)
        assert np.array_equal(together, resident.run([tile])[0])


class Overflowing(nn.Module):
    """Not finite in half precision, nor ever where the picture is black."""

    def forward(self, image, mask):
        if torch.is_autocast_enabled("cpu"):
            return image / 0
        return image / image.amax((1, 2, 3), keepdim=True)


def test_an_overflow_in_half_precision_runs_again_in_float32():
    window = random_window(4)
    (output,) = TorchResident(Overflowing(), CPU, HALVES["bfloat16"]).run([window])
    (expected,) = TorchResident(Overflowing(), CPU).run([window])
    assert np.array_equal(output, expected)


def test_what_is_not_finite_fails_alone():
    black = InpaintWindow(np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8))
    resident = TorchResident(Overflowing(), CPU)
    with pytest.raises(NotFinite):
        resident.run([black])
    answers = run_isolated(resident.run, [random_window(1), black, random_window(2)])
    assert [isinstance(answer, ComputeFailed) for answer in answers] == [False, True, False]


def test_a_gpu_rounds_what_can_bear_it_and_a_cpu_nothing():
    def name(precision: str, device: str, model: str) -> str:
        return arithmetic_of(precision, torch.device(device), registry.get(model)).name

    assert name("auto", "cuda:1", "structure") == "tf32"
    assert name("float16", "cuda", "structure") == "float16"
    assert name("float32", "cuda", "structure") == "float32"
    for chooses in ("patch-swap", "patchmatch", "guided-patchmatch"):
        assert {name(wanted, "cuda", chooses) for wanted in ("auto", "float16", "bfloat16")} == {"float32"}
    assert name("float16", "cpu", "structure") == "float32"


def test_a_device_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices("auto") == devices("cuda") == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert devices("cuda:1") == [torch.device("cuda:1")]
    assert devices("cpu") == [CPU]
    with pytest.raises(UsageError, match="2 GPUs"):
        devices("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices("auto") == [CPU]
    with pytest.raises(UsageError):
        devices("cuda")


def test_the_catalogue_knows_a_network_without_loading_it(monkeypatch, tmp_path):
    catalogue = Catalogue(install_toys(monkeypatch, tmp_path), "cpu")
    facts = catalogue.traits("toy-enlarge")
    assert (facts.window, facts.receptive_field) == (24, 1)
    assert catalogue.traits("toy-fill").sketch
    assert catalogue.resolve("inpaint", "toy-fill").name == "toy-fill"
    with pytest.raises(NotFound):
        catalogue.resolve("inpaint", "toy-enlarge")
    with pytest.raises(NotFound):
        catalogue.resolve("inpaint", "nonesuch")


def test_compressed_pictures_may_have_a_default_of_their_own(monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path)
    manifest = tmp_path / "manifest.toml"
    row = '[[model]]\nname = "restore"\narchitecture = "toy-enlarge"\nlossy_on = ["cpu"]\n'
    manifest.write_text(manifest.read_text() + row)
    catalogue = Catalogue(settings, "cpu")
    assert catalogue.resolve("upscale", None, lossy=True).name == "restore"
    assert catalogue.resolve("upscale", None).name == "toy-enlarge"
    assert catalogue.resolve("upscale", "toy-enlarge", lossy=True).name == "toy-enlarge"
    assert catalogue.resolve("inpaint", None, lossy=True).name == "toy-fill"


@pytest.mark.parametrize(
    ("format", "options", "lossy"),
    [
        ("JPEG", {}, True),
        ("WEBP", {"quality": 80}, True),
        ("WEBP", {"lossless": True}, False),
        ("PNG", {}, False),
        ("BMP", {}, False),
        ("GIF", {}, False),
    ],
)
def test_formats_tell_whether_they_lost_something(format, options, lossy):
    out = io.BytesIO()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(out, format, **options)
    assert is_lossy(out.getvalue()) is lossy


def test_a_model_of_an_unknown_architecture_does_not_hide_the_others(monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path)
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(manifest.read_text() + '[[model]]\nname = "odd"\narchitecture = "odd"\n')
    catalogue = Catalogue(settings, "cpu")
    assert "toy-fill" in catalogue.entries
    assert "odd" not in catalogue.entries


def test_the_backend_loads_and_measures(monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path)
    runtime = TorchRuntime(settings)
    resident = runtime.load(Catalogue(settings, runtime.device).entry("toy-fill"))
    assert resident.bytes == 4 * (4 * 3 * 81 + 3)
    assert runtime.memory > 2**28
    assert runtime.room(resident, random_window(1), 2) == 2


def test_a_processor_computes_large_windows_one_by_one(monkeypatch, tmp_path):
    runtime = TorchRuntime(install_toys(monkeypatch, tmp_path))

    def window(side: int) -> InpaintWindow:
        return InpaintWindow(np.zeros((side, side, 3), np.uint8), np.ones((side, side), np.uint8))

    resident = TorchResident(ToyFill(), CPU)
    assert runtime.worthwhile(resident, window(256)) == 4
    assert runtime.worthwhile(resident, window(512)) == runtime.worthwhile(resident, window(1024)) == 1


def test_a_model_with_arguments_that_no_network_takes_does_not_hide_the_others(monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path)
    manifest = tmp_path / "manifest.toml"
    odd = '[[model]]\nname = "odd"\narchitecture = "toy-fill"\narguments = {odd = 1}\n'
    manifest.write_text(manifest.read_text() + odd)
    catalogue = Catalogue(settings, "cpu")
    assert "odd" not in catalogue.entries
    assert catalogue.traits("toy-fill").sketch
