"""The shipped upscaler through the service: seams, every scale, exact sizes, transparency, sixteen bits."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import models
from service.errors import Unprocessable
from service.local.pipeline import Pipeline
from service.observability.metrics import Metrics
from service.settings import Settings
from service.work import Result, UpscaleParameters
from tests.service.dispatchers import answered, run_of
from tests.service.pictures import noise, pixels_of, png, saved

MODEL = "meta-sr-small"


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    pipeline = Pipeline(Settings(codec_threads=1), Metrics())
    yield pipeline
    pipeline.close()


def enlarge(pipeline: Pipeline, pixels: np.ndarray, **parameters: Any) -> Result:
    return answered(pipeline, run_of("upscale", MODEL, png(pixels), UpscaleParameters(**parameters)))


def scene(height: int, width: int) -> np.ndarray:
    """Soft colours under hard edges and a little noise: what a network answers to with detail."""
    pixels = soft(height, width)
    rows, columns = np.mgrid[:height, :width]
    pixels[(rows * 2 + columns) % 17 < 5] //= 2
    grain = np.random.default_rng(4).normal(0, 4, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def soft(height: int, width: int) -> np.ndarray:
    """Colours that nothing clips, so that their mean is a fair one."""
    coarse = 64 + noise(5, 4, seed=3) // 2
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def untiled(pixels: np.ndarray, scale: float) -> np.ndarray:
    image = torch.tensor(pixels).permute(2, 0, 1)[None].float() / np.iinfo(pixels.dtype).max
    with torch.inference_mode():
        answer = models.load(MODEL)(image, scale)[0].clamp(0, 1)
    return answer.permute(1, 2, 0).numpy() * np.iinfo(pixels.dtype).max


@pytest.mark.parametrize("scale", [1.1, 2.7])
def test_tiles_leave_no_seam(pipeline, scale):
    pixels = scene(150, 270)
    result = enlarge(pipeline, pixels, scale=scale)
    assert result.windows == 2
    assert np.abs(pixels_of(result.content) - untiled(pixels, scale)).max() <= 1


def test_sixteen_bits_are_enlarged_as_such(pipeline):
    rows, columns = np.mgrid[:30, :40]
    pixels = np.stack([20_000 + 3 * rows, 40_000 + 5 * columns, 30_000 + rows * columns], -1)
    answer = pixels_of(enlarge(pipeline, pixels.astype(np.uint16), scale=1.5).content)
    assert answer.dtype == np.uint16
    assert len(np.unique(answer // 256 * 256)) < len(np.unique(answer))
    assert np.abs(answer - untiled(pixels.astype(np.uint16), 1.5)).max() <= 2


def test_every_scale_has_its_size_and_keeps_the_colours(pipeline):
    pixels = soft(20, 30)
    mean = pixels.mean((0, 1))
    for tenths in range(10, 81):
        answer = pixels_of(enlarge(pipeline, pixels, scale=tenths / 10).content)
        size = [math.floor(Fraction(side * tenths, 10) + Fraction(1, 2)) for side in (20, 30)]
        assert list(answer.shape[:2]) == size
        assert np.abs(answer.mean((0, 1)) - mean).max() <= 1, tenths


@pytest.mark.parametrize(
    ("target", "size"),
    [
        ({"width": 193}, (125, 193)),
        ({"height": 100}, (100, 154)),
        ({"width": 71, "height": 299}, (299, 71)),
        ({"width": 568, "height": 46}, (46, 568)),
    ],
)
def test_a_target_size_is_met_exactly(pipeline, target, size):
    pixels = soft(46, 71)
    answer = pixels_of(enlarge(pipeline, pixels, **target).content)
    assert answer.shape[:2] == size
    assert np.abs(answer.mean((0, 1)) - pixels.mean((0, 1))).max() <= 1


def test_beyond_four_the_picture_is_doubled_first(pipeline):
    pixels = scene(23, 31)
    doubled = pixels_of(enlarge(pipeline, pixels, scale=2).content)
    by_hand = enlarge(pipeline, doubled, scale=2.7).content
    assert np.array_equal(pixels_of(enlarge(pipeline, pixels, scale=5.4).content), pixels_of(by_hand))


@pytest.mark.parametrize("target", [{"scale": 1.0}, {"width": 17}, {"width": 17, "height": 21}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_scale_one_gives_the_picture_back(pipeline, target, dtype):
    pixels = noise(21, 17, 4, dtype)
    result = enlarge(pipeline, pixels, **target)
    assert np.array_equal(pixels_of(result.content), pixels)
    assert result.windows == 0


@pytest.mark.parametrize("target", [{"width": 16}, {"width": 34, "height": 20}, {"width": 17 * 8 + 1}])
def test_below_one_and_above_eight_are_refused(pipeline, target):
    with pytest.raises(Unprocessable, match="must be in 1"):
        enlarge(pipeline, noise(21, 17), **target)


def test_transparency_grows_with_the_picture(pipeline):
    pixels = scene(30, 40)
    alpha = np.where(np.mgrid[:30, :40][1] < 20, 255, 0).astype(np.uint8)
    answer = pixels_of(enlarge(pipeline, np.dstack([pixels, alpha]), scale=2.3).content)
    assert answer.shape == (69, 92, 4)
    assert (answer[:, :42, 3] > 240).all()
    assert (answer[:, 51:, 3] < 15).all()
    pixels[:, 20:] = pixels[:, 19:20]  # what is seen goes on where nothing is
    assert np.abs(answer[..., :3] - untiled(pixels, 2.3)).max() <= 1


def rim(pixels: np.ndarray, colour: list[int]) -> float:
    """How much a thing of one colour stands out from a ground of that colour."""
    return float((np.abs(pixels[..., :3] - np.array(colour)) * (pixels[..., 3:] / 255)).max())


@pytest.mark.parametrize(
    ("model", "format"), [("meta-sr-small", "PNG"), ("meta-sr-photo", "PNG"), ("meta-sr-photo", "WEBP")]
)
@pytest.mark.parametrize("scale", [1.0, 2.7])
def test_what_is_cut_out_gets_no_halo(pipeline, model, format, scale):
    rows, columns = np.mgrid[:40, :48]
    alpha = np.clip(14.5 - np.hypot(rows - 20, columns - 24), 0, 1)
    colour = [220, 60, 40]
    pixels = np.where((alpha > 0)[..., None], colour, 0)
    file = saved(Image.fromarray(np.dstack([pixels, alpha * 255]).astype(np.uint8)), format, quality=75)
    run = run_of("upscale", model, file, UpscaleParameters(scale=scale))
    answer = pixels_of(answered(pipeline, run).content)
    assert rim(answer, colour) <= rim(np.asarray(Image.open(io.BytesIO(file))), colour) + 6
    opaque = answer[..., 3]
    assert opaque[opaque.shape[0] // 2, opaque.shape[1] // 2] >= 250
    assert opaque[0].max() <= 2
