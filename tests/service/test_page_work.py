"""Work that takes its time, and what stands in its way, on the page in a real browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Mount

from service.app import create_app
from service.settings import Settings
from tests.service.browser import Browser, browsing
from tests.service.conftest import free_port
from tests.service.server import Server
from tests.service.visiting import (
    IDLE,
    READY,
    frames,
    picture_box,
    put,
    put_up,
    stroke,
    text,
    work,
)

PROGRESS = "/[1-9]\\d* of \\d+ windows/.test(document.querySelector('#status').textContent)"
WIDTH, HEIGHT = 480, 360


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """One of its own for every test: keys and jobs are kept in browsers."""
    with browsing(tmp_path / "profile") as started:
        yield started


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pictures") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file)
    return file


@pytest.fixture
def small(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), (90, 120, 60)).save(tmp_path / "small.png")
    return tmp_path / "small.png"


@pytest.fixture
def page(browser: Browser, page_server: Server, photograph: Path) -> Browser:
    browser.open(page_server.url)
    browser.wait(READY)
    put_up(browser, photograph, WIDTH)
    return browser


def begin(page: Browser, factor: float) -> str:
    """A long work's job, once some of it is done; one that was done before would be known to the cache."""
    put(page, "#factor", factor)
    page.click("#enlarge")
    page.wait(PROGRESS)
    return page.run("JSON.parse(sessionStorage.getItem('retouch.job')).id")


def test_work_is_found_again_after_a_reload(page, page_server):
    begin(page, 4)
    assert page.run("document.querySelector('#progress').value") > 0
    page.open(page_server.url)
    page.wait(READY)
    page.wait(PROGRESS)
    page.wait(f"document.querySelector('#stage').dataset.width === '{WIDTH * 4}' && {IDLE}")
    assert "enlarged by" in text(page, "#status")
    assert page.run("sessionStorage.length") == 0


def test_work_is_cancelled_at_the_server_too(page):
    id = begin(page, 3.9)
    page.click("#cancel")
    page.wait(IDLE)
    assert page.run(f"fetch('jobs/{id}').then((answer) => answer.status)") == 404
    assert page.run("document.querySelector('#stage').dataset.width") == str(WIDTH)
    assert page.run("sessionStorage.length") == 0


def test_opening_another_picture_ends_what_is_under_way(page, small):
    id = begin(page, 3.8)
    put_up(page, small, 64)
    assert page.run(f"fetch('jobs/{id}').then((answer) => answer.status)") == 404
    stroke(page, (0.4, 0.5), (0.6, 0.5))
    work(page, "#fill")
    assert page.run("document.querySelector('#stage').dataset.width") == "64"
    assert page.run("document.querySelectorAll('#history button').length") == 2


def test_a_strict_server_says_its_limits_and_asks_for_a_key(browser, photograph, small):
    strict = Server(api_keys="secret", max_pixels=str(WIDTH * HEIGHT))
    try:
        browser.open(strict.url)
        browser.wait(READY)
        assert browser.run("document.querySelector('#key-row').open")
        put_up(browser, photograph, WIDTH)
        assert "million pixels" in text(browser, "#enlarge-limit")
        assert browser.run("document.querySelector('#enlarge').disabled")
        put(browser, "#factor", 1)
        assert not browser.run("document.querySelector('#enlarge').disabled")

        put_up(browser, small, 64)
        stroke(browser, (0.5, 0.5))
        work(browser, "#fill")
        assert "key" in text(browser, "#status")
        assert browser.run("document.activeElement.id") == "key"
        browser.call("Input.insertText", text="secret")
        browser.key("Enter")
        browser.run("document.activeElement.blur()")
        browser.open(strict.url)
        browser.wait(READY)
        put_up(browser, small, 64)
        stroke(browser, (0.5, 0.5))
        work(browser, "#fill")
        assert "filled by" in text(browser, "#status")
    finally:
        strict.kill()


def test_models_that_do_not_come_are_said_and_tried_again(browser, page_server):
    browser.call("Network.setBlockedURLs", urls=["*/models"])
    browser.open(page_server.url)
    browser.wait("document.querySelector('#status.error')")
    assert "list of models" in text(browser, "#status")
    browser.call("Network.setBlockedURLs", urls=[])
    browser.wait(READY)
    assert browser.run("document.querySelector('#inpaint-model').length") > 0
    assert not browser.run("document.querySelector('#status').classList.contains('error')")


def test_a_sketch_is_offered_where_the_model_takes_one(page, page_server):
    rows = httpx.get(f"{page_server.url}/models").json()["models"]
    for row in (row for row in rows if row["task"] == "inpaint"):
        put(page, "#inpaint-model", row["name"])
        offered = not page.run("document.querySelector('input[value=sketch]').disabled")
        assert offered == row["limits"]["sketch"]


def test_the_page_works_below_a_path(browser, small):
    inner = create_app(Settings())
    outer = Starlette(
        routes=[Mount("/tools/retouch", inner)], lifespan=lambda _: inner.router.lifespan_context(inner)
    )
    port = free_port()
    running = uvicorn.Server(uvicorn.Config(outer, port=port, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        give_up = time.monotonic() + 60
        while not running.started and time.monotonic() < give_up:
            time.sleep(0.05)
        browser.open(f"http://127.0.0.1:{port}/tools/retouch/")
        browser.wait(READY)
        put_up(browser, small, 64)
        stroke(browser, (0.5, 0.5))
        work(browser, "#fill")
        assert "filled by" in text(browser, "#status")
        assert not browser.faults
        browser.open(f"http://127.0.0.1:{port}/tools/retouch/docs")
        browser.wait("document.querySelectorAll('main details').length > 5")
    finally:
        running.should_exit = True
        thread.join()


def test_twenty_four_megapixels_are_painted_smoothly(browser, page_server, tmp_path):
    clouds = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8))
    clouds.resize((6000, 4000), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg")
    browser.open(page_server.url)
    browser.wait(READY)
    put_up(browser, tmp_path / "large.jpg", 6000)
    left, top, width, height = picture_box(browser)
    browser.run(
        """(() => {
          window.spent = [];
          let began;
          addEventListener("pointermove", () => (began = performance.now()), true);
          addEventListener("pointermove", () => spent.push(performance.now() - began));
        })()"""
    )
    turns = np.linspace(0, 6, 100)
    browser.drag(
        *(
            (left + width * (0.5 + t / 20 * np.cos(t)), top + height * (0.5 + t / 20 * np.sin(t)))
            for t in turns
        )
    )
    frames(browser)
    spent = browser.run("spent")
    assert len(spent) >= 90
    assert np.median(spent) < 16
    print("milliseconds a move, median and most:", np.median(spent), max(spent))
    assert browser.run("document.querySelector('#hole').width") < 1500  # drawn at the screen's size
    browser.click("#undo")
    stroke(browser, (0.5, 0.5))
    work(browser, "#fill")
    assert browser.run("document.querySelector('#stage').dataset.width") == "6000"
    assert "filled by" in text(browser, "#status")
