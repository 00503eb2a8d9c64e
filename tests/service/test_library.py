"""The pipeline as a class."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from service.errors import Problem, Unprocessable
from service.library import Retouch
from tests.service.pictures import noise, square
from tests.service.test_serve import photo


@pytest.fixture(scope="module")
def retouch() -> Iterator[Retouch]:
    with Retouch(device="cpu") as made:
        yield made


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 1), (40, 50, 3), (40, 50, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_come_back_as_they_went_in(retouch, shape, dtype):
    pixels = noise(40, 50, 4, dtype)[..., : shape[-1] if len(shape) == 3 else 1].reshape(shape)
    hole = square(40, 50) > 0
    for mask in (hole, square(40, 50), Image.fromarray(square(40, 50))):
        filled = retouch.inpaint(pixels, mask, model="patchmatch")
        assert (filled.shape, filled.dtype) == (shape, dtype)
        assert np.array_equal(filled[~hole], pixels[~hole])
    large = retouch.upscale(pixels, 1.5)
    assert (large.shape, large.dtype) == ((60, 75, *shape[2:]), dtype)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_images_of_every_mode(retouch, mode):
    assert retouch.upscale(Image.fromarray(photo(20, 30)).convert(mode), width=45).size == (45, 30)


def test_images_of_16_bits(retouch):
    gray = noise(20, 30, 1, np.uint16)[..., 0]
    assert np.array_equal(np.asarray(retouch.upscale(Image.fromarray(gray), 1)), gray)


def test_transparency_is_the_hole_where_there_is_no_mask(retouch):
    image = Image.fromarray(photo(40, 50)).convert("RGBA")
    image.putalpha(Image.fromarray(255 - square(40, 50)))
    filled = np.asarray(retouch.inpaint(image, model="patchmatch"))
    assert (filled[..., 3] == 255).all()


def test_what_cannot_be_done_is_told(retouch):
    pixels = photo(20, 30)
    with pytest.raises(Unprocessable, match="did you mean 'grow'"):
        retouch.inpaint(pixels, square(20, 30), grwo=2)
    with pytest.raises(Problem, match="they must be the same"):
        retouch.inpaint(pixels, square(30, 20))
    with pytest.raises(TypeError, match="float64"):
        retouch.upscale(pixels / 255, 2)


def test_it_works_where_a_loop_is_running(retouch):
    async def cell() -> tuple[int, ...]:
        return retouch.upscale(photo(20, 30), 2).shape

    assert asyncio.run(cell()) == (40, 60, 3)
