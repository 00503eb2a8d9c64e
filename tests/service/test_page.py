"""The page as a visitor uses it, in a real browser, against a real server."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.service.browser import Browser, browsing
from tests.service.server import Server

READY = "document.body.dataset.ready"
IDLE = "document.querySelector('#status:not(.busy)')"
SIDE = 192


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    waves = [128 + 90 * np.sin(rows / 9), 128 + 90 * np.cos(columns / 13), rows / 2 + columns / 2]
    file = tmp_path_factory.mktemp("pictures") / "waves.png"
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(file)
    return file


@pytest.fixture
def page(browser: Browser, server: Server, photograph: Path) -> Browser:
    """Opened, with a photograph on the easel."""
    browser.resize(1280, 800)
    browser.open(server.url)
    browser.wait(READY)
    browser.choose("#file", photograph)
    browser.wait(f"document.querySelector('#picture').width === {SIDE}")
    return browser


def stroke(page: Browser, *points: tuple[float, float]) -> None:
    """Painted at shares of the picture's sides."""
    left, top, width, height = page.box("#paint")
    page.drag(*((left + x * width, top + y * height) for x, y in points))


def downloaded(page: Browser) -> np.ndarray:
    """The file that the link gives."""
    page.wait("!document.querySelector('#download').hidden")
    content = page.run(
        "fetch(document.querySelector('#download').href).then((file) => file.bytes()).then((all) => [...all])"
    )
    return np.asarray(Image.open(io.BytesIO(bytes(content))).convert("RGB"))


def shown(page: Browser) -> str:
    """A digest of what the easel shows."""
    return hashlib.sha256(page.run("document.querySelector('#picture').toDataURL()").encode()).hexdigest()


def test_a_painted_hole_is_filled(page, photograph):
    before = shown(page)
    assert page.run("document.querySelector('#fill').disabled")
    stroke(page, (0.4, 0.5), (0.6, 0.5))
    page.click("#fill")
    filled, given = downloaded(page), np.asarray(Image.open(photograph))
    changed = (filled != given).any(-1)
    assert changed[90:102, 80:112].mean() > 0.5
    changed[60:132, 50:142] = False
    assert not changed.any()
    assert shown(page) != before
    page.click("#undo")
    page.wait("document.querySelector('#download').hidden")
    assert shown(page) == before
    assert not page.faults


def test_a_sketch_guides_the_fill(page):
    fills = []
    for lines in ([], [((0.5, 0.3), (0.5, 0.7))]):
        page.run("document.querySelector('input[value=hole]').click()")
        stroke(page, (0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6), (0.4, 0.4))
        page.run("document.querySelector('input[value=sketch]').click()")
        for line in lines:
            stroke(page, *line)
        page.click("#fill")
        fills.append(downloaded(page))
        page.click("#undo")
        page.wait("document.querySelector('#download').hidden")
    assert (fills[0] != fills[1]).any()
    assert not page.faults


def test_strokes_can_be_undone_and_erased(page):
    stroke(page, (0.4, 0.5), (0.6, 0.5))
    assert not page.run("document.querySelector('#fill').disabled")
    page.key("z", modifiers=2)
    assert page.run("document.querySelector('#fill').disabled")
    stroke(page, (0.5, 0.5))
    page.run("document.querySelector('input[value=erase]').click()")
    painted = "document.querySelector('#paint').getContext('2d').getImageData(96, 96, 1, 1).data[3]"
    assert page.run(painted) > 0
    stroke(page, (0.4, 0.5), (0.6, 0.5))
    assert page.run(painted) == 0


def test_a_picture_is_enlarged_and_compared(page):
    page.run(
        "(({scale}) => { scale.value = 1.5; scale.dispatchEvent(new Event('input')) })"
        "({scale: document.querySelector('#scale')})"
    )
    page.click("#enlarge")
    assert downloaded(page).shape == (288, 288, 3)
    after = shown(page)
    left, top, width, height = page.box("#before")
    middle = {"x": left + width / 2, "y": top + height / 2, "button": "left", "clickCount": 1}
    page.call("Input.dispatchMouseEvent", type="mousePressed", **middle)
    page.wait(f"document.querySelector('#picture').width === {SIDE}")
    page.call("Input.dispatchMouseEvent", type="mouseReleased", **middle)
    page.wait("document.querySelector('#picture').width === 288")
    assert shown(page) == after
    assert not page.faults


def test_what_is_wrong_is_said(page):
    page.run("document.querySelector('#size').value = 120")
    for row in (0.05, 0.35, 0.65, 0.95):
        stroke(page, (0.0, row), (1.0, row))
    page.click("#fill")
    page.wait("document.querySelector('#status.error')")
    assert "whole picture" in page.run("document.querySelector('#status').textContent")
    page.faults.clear()  # the browser logs a 422
    assert not page.run("document.querySelector('#fill').disabled")


def test_a_phone_sees_the_picture_and_the_controls(page):
    page.resize(390, 844, mobile=True)
    left, top, width, height = page.box("#easel")
    assert width >= 190
    assert left >= 0
    assert left + width <= 390
    assert top + height < 844 / 2
    assert page.run("document.documentElement.scrollWidth") <= 390
    for control in ("#fill", "#enlarge", "#before"):
        page.run(f"document.querySelector('{control}').scrollIntoView()")
        _, top, _, height = page.box(control)
        assert top >= 0
        assert top + height <= 844


def test_every_control_has_a_name(page):
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "slider", "radio", "combobox", "link"}
    nameless = [
        node
        for node in tree
        if not node["ignored"]
        and node.get("role", {}).get("value") in controls
        and not node.get("name", {}).get("value")
    ]
    assert not [(node["role"], node.get("name"), node.get("properties")) for node in nameless]


def test_nothing_comes_from_elsewhere(server):
    for part in ("/", "/web/retouch.js", "/web/retouch.css"):
        text = httpx.get(server.url + part).text
        assert "http://" not in text
        assert "https://" not in text
