"""The tools that ask the server: an object's mask, and more picture round the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.service.browser import Browser, browsing
from tests.service.server import Server
from tests.service.test_select import HEIGHT, WIDTH, overlap, scene
from tests.service.visiting import (
    ALT,
    IDLE,
    READY,
    disabled,
    frames,
    mask,
    picture_box,
    put,
    put_up,
    saved,
    stroke,
    text,
    tool,
    work,
)


@pytest.fixture
def page(page_server: Server, tmp_path: Path) -> Iterator[Browser]:
    Image.fromarray(scene()[0]).save(tmp_path / "discs.png")
    with browsing(tmp_path / "profile") as browser:
        browser.downloads(tmp_path)
        browser.open(page_server.url)
        browser.wait(READY)
        put_up(browser, tmp_path / "discs.png", WIDTH)
        yield browser


def click(page: Browser, column: float, row: float, **options: int) -> None:
    """On a pixel, until the server has proposed a mask."""
    stroke(page, (column / WIDTH, row / HEIGHT), **options)
    page.wait(IDLE)
    frames(page)


def test_a_click_proposes_a_mask_and_further_clicks_correct_it(page, tmp_path):
    _, left, right = scene()
    tool(page, "select")
    click(page, 90, 120)
    assert overlap(mask(page, tmp_path) > 127, left) > 0.9
    click(page, 230, 110)
    assert overlap(mask(page, tmp_path) > 127, left | right) > 0.9
    click(page, 160, 120, modifiers=ALT)
    click(page, 230, 110, modifiers=ALT)
    made = mask(page, tmp_path) > 127
    assert not made[110, 230]
    for _ in range(3):
        page.key("z", modifiers=2)
    frames(page)
    assert overlap(mask(page, tmp_path) > 127, left) > 0.9
    assert not page.faults


def test_objects_are_selected_one_after_another_and_in_what_is_in_sight(page, tmp_path):
    _, left, right = scene()
    tool(page, "select")
    click(page, 90, 120)
    page.key("n")
    left_edge, top, width, height = picture_box(page)
    page.wheel(left_edge + width * 230 / WIDTH, top + height * 110 / HEIGHT, -250)
    click_at = page.box("#stage")
    frames(page)
    page.drag((left_edge + width * 230 / WIDTH, top + height * 110 / HEIGHT))
    page.wait(IDLE)
    frames(page)
    assert click_at == page.box("#stage")
    assert overlap(mask(page, tmp_path) > 127, left | right) > 0.9


def test_a_picture_is_extended_by_its_handles_and_by_numbers(page, tmp_path):
    page.click("#extend summary")
    assert disabled(page, "#extend-run")
    put(page, "#extend-top", 24)
    _, _, width, _ = picture_box(page)
    left, top, side, _ = page.box("#handle-right")
    page.drag((left + side / 2, top + side / 2), (left + side / 2 + 32 * width / WIDTH, top + side / 2))
    frames(page)
    assert page.run("document.querySelector('#extend-right').valueAsNumber") == pytest.approx(32, abs=1)
    put(page, "#extend-right", 32)
    before = np.asarray(Image.open(tmp_path / "discs.png"))
    put(page, "#grow", 0)
    put(page, "#feather", 0)
    work(page, "#extend-run")
    assert "extended by" in text(page, "#status")
    larger = saved(page, tmp_path)
    assert larger.shape == (HEIGHT + 24, WIDTH + 32, 3)
    assert (larger[24:, :WIDTH] == before).all()
    assert page.run("document.querySelector('#extend-top').value") == "0"
    # The picture before lies where it belongs in the larger one.
    page.click("#compare")
    frames(page)
    corner = "document.querySelector('#picture').getContext('2d').getImageData(%d, %d, 1, 1).data[3]"
    stage = page.box("#stage")
    shown = page.run("(({x, y, width}) => [x, y, width])(document.querySelector('#frame').getBBox())")
    assert page.run(corner % (shown[0] + 4, shown[1] + 4)) == 0
    assert stage[2] > shown[2]
    assert not page.faults
