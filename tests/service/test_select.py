"""Clicks to masks."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.imaging.select import Hints, grab
from tests.service.pictures import noise, pixels_of, png
from tests.service.toys import install_toys

HEIGHT, WIDTH = 240, 320


def scene(scale: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two discs of several colours on a textured ground, and where each lies."""
    height, width = HEIGHT * scale, WIDTH * scale
    ground = cv2.GaussianBlur(noise(height, width), (0, 0), 4 * scale) // 2 + np.uint8([20, 90, 40])
    masks = []
    for centre, colour in (((90, 120), (230, 60, 50)), ((230, 110), (60, 80, 220))):
        mask = np.zeros((height, width), np.uint8)
        cv2.circle(mask, (centre[0] * scale, centre[1] * scale), 45 * scale, 1, -1)
        shade = np.linspace(0.8, 1.1, width)[None, :, None]
        ground = np.where(mask[..., None] > 0, np.clip(np.array(colour) * shade, 0, 255), ground)
        masks.append(mask > 0)
    return ground.astype(np.uint8), masks[0], masks[1]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        settings = install_toys(patch, tmp_path_factory.mktemp("weights"), api_keys="key")
        with TestClient(create_app(settings), headers={"X-API-Key": "key"}) as started:
            yield started


def ask(client: TestClient, picture: np.ndarray, **data: str) -> np.ndarray:
    answer = client.post("/select", files={"image": png(picture)}, data=data)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return pixels_of(answer.content) > 127


@pytest.mark.parametrize("scale", [1, 4])
def test_one_click_selects_one_object(client, scale):
    picture, left, right = scene(scale)
    for mask, column in ((left, 90), (right, 230)):
        found = ask(client, picture, inside=f"{column * scale},{115 * scale}")
        assert found.shape == mask.shape
        assert overlap(found, mask) > 0.93


def test_further_clicks_add_and_take_away(client):
    picture, left, right = scene()
    both = ask(client, picture, inside="90,120 230,110")
    assert overlap(both, left | right) > 0.9
    without = ask(client, picture, inside="90,120", outside="230,110 160,120")
    assert overlap(without, left) > 0.93
    assert not without[110, 230]


def test_nothing_outside_the_box_is_selected(client):
    picture, left, _ = scene()
    found = ask(client, picture, box="40,70,140,170")
    assert overlap(found, left) > 0.93
    found[70:170, 40:140] = False
    assert not found.any()


def test_a_shadow_comes_along_when_asked_for():
    picture, left, _ = scene()
    shadow = np.zeros(left.shape, np.uint8)
    cv2.ellipse(shadow, (105, 180), (45, 14), 0, 0, 360, 1, -1)
    shadow = (shadow > 0) & ~left
    picture[shadow] = picture[shadow] // 3
    plain, with_it = (grab(picture, Hints([(90, 115)], shadow=wanted)) > 0 for wanted in (False, True))
    assert plain[shadow].mean() < 0.3
    assert with_it[shadow].mean() > 0.7


def test_equal_questions_have_equal_answers(client):
    picture, *_ = scene()
    assert (ask(client, picture, inside="90,120") == ask(client, picture, inside="90,120")).all()


@pytest.mark.parametrize(
    "data", [{}, {"inside": "400,10"}, {"inside": "1;2"}, {"box": "9,9,9,20"}, {"inside": "5,5", "hint": "1"}]
)
def test_what_makes_no_sense_is_refused(client, data):
    assert client.post("/select", files={"image": png(noise(20, 30))}, data=data).status_code == 422


def test_it_takes_a_key(client):
    answer = client.post(
        "/select", files={"image": png(noise(20, 30))}, data={"inside": "5,5"}, headers={"X-API-Key": "no"}
    )
    assert answer.status_code == 401
