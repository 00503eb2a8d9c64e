"""More picture round a picture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from service.app import create_app
from service.imaging.extend import Margins, margins
from tests.service.pictures import noise, pixels_of, png, square
from tests.service.toys import install_toys

SIDES = st.integers(0, 9)


@pytest.fixture
def client(monkeypatch, tmp_path) -> Iterator[TestClient]:
    with TestClient(create_app(install_toys(monkeypatch, tmp_path, max_side=200))) as started:
        yield started


@given(st.builds(Margins, SIDES, SIDES, SIDES, SIDES))
def test_a_picture_lies_unchanged_in_its_extension(around):
    pixels = noise(11, 13)
    larger = around.pad(pixels)
    assert larger.shape[:2] == around.around(11, 13)
    assert (larger[around.top :, around.left :][:11, :13] == pixels).all()
    assert (around.pad(pixels[..., 0], 255) == 255).sum() >= larger[..., 0].size - 11 * 13


def test_sides_are_pixels_or_per_cent_of_what_they_lengthen():
    assert margins("10%,3,0,50%", 40, 60) == Margins(4, 3, 0, 30)
    assert margins(None, 40, 60) == Margins()


def test_what_is_added_is_filled_and_what_was_there_stays(client):
    image = noise(40, 48)
    answer = client.post("/inpaint", files={"image": png(image)}, data={"extend": "8,25%,0,5"})
    assert answer.status_code == 200
    larger = pixels_of(answer.content)
    assert larger.shape == (48, 65, 3)
    assert (larger[8:, 5:53] == image).all()
    assert larger[:8].std() > 0
    assert float(answer.headers["x-hole"]) == pytest.approx(1 - 40 * 48 / (48 * 65), abs=1e-3)


def test_a_hole_is_filled_with_it(client):
    image = noise(40, 48)
    files = {"image": png(image), "mask": png(square(40, 48))}
    larger = pixels_of(client.post("/inpaint", files=files, data={"extend": "0,8,0,0"}).content)
    changed = (larger[:, :48] != image).any(-1)
    assert changed[5:14, 6:15].mean() > 0.9
    changed[5:14, 6:15] = False
    assert not changed.any()


@pytest.mark.parametrize("extend", ["1,2,3", "1,2,3,x", "-1,0,0,0", "0,0,0,200"])
def test_what_cannot_be_added_is_refused(client, extend):
    answer = client.post("/inpaint", files={"image": png(noise(40, 48))}, data={"extend": extend})
    assert answer.status_code == 422
