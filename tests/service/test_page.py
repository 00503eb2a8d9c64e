"""The page as a visitor uses it, in a real browser, against a real server."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.service.browser import Browser, browsing
from tests.service.server import Server
from tests.service.visiting import (
    ALT,
    CONTROL,
    IDLE,
    READY,
    disabled,
    exactly,
    frames,
    mask,
    picture_box,
    pictures,
    put,
    put_up,
    saved,
    shown,
    stroke,
    text,
    tool,
    work,
)

SIDE = 192
AXE = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")


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
def page(
    browser: Browser, page_server: Server, photograph: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Browser]:
    """Opened, with a photograph on the easel; a test that fails leaves what it saw."""
    failed = request.session.testsfailed
    browser.resize(1280, 800)
    browser.downloads(tmp_path)
    browser.open(page_server.url)
    browser.run("sessionStorage.clear()")
    browser.wait(READY)
    put_up(browser, photograph, SIDE)
    browser.faults.clear()
    yield browser
    if request.session.testsfailed > failed:
        browser.screenshot(tmp_path / "failed.png")
        print("The page as it was:", tmp_path / "failed.png")


def test_a_painted_hole_is_filled(page, photograph, tmp_path):
    before = shown(page)
    assert disabled(page, "#fill")
    exactly(page)
    stroke(page, (0.4, 0.5), (0.6, 0.5))
    work(page, "#fill")
    filled, given = saved(page, tmp_path), np.asarray(Image.open(photograph))
    changed = (filled != given).any(-1)
    assert changed[94:98, 85:108].mean() > 0.5
    changed[60:132, 50:142] = False
    assert not changed.any()
    assert shown(page) != before
    assert not page.faults


def test_a_sketch_guides_the_fill(page, tmp_path):
    fills = []
    for lines in ([], [((0.5, 0.3), (0.5, 0.7))]):
        tool(page, "hole")
        stroke(page, (0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6), (0.4, 0.4))
        tool(page, "sketch")
        for line in lines:
            stroke(page, *line)
        work(page, "#fill")
        fills.append(saved(page, tmp_path))
        page.click("#history button")
        page.click("#clear")
    assert (fills[0] != fills[1]).any()
    assert not page.faults


def test_history_goes_back_and_forth_through_pictures_and_strokes(page, tmp_path):
    seen = []
    for row in (0.3, 0.5, 0.7):
        stroke(page, (0.4, row), (0.6, row))
        seen += [(shown(page), shown(page, "#hole"))]
        work(page, "#fill")
        seen += [(shown(page), shown(page, "#hole"))]
    assert pictures(page) == 4
    assert seen[1][1] == seen[3][1] != seen[2][1]
    del seen[0]  # the strip of pictures was not there yet, and the stage larger
    for expected in seen[-2::-1]:
        page.key("z", CONTROL)
        assert (shown(page), shown(page, "#hole")) == expected
    page.key("z", CONTROL)
    page.key("z", CONTROL)
    frames(page)
    assert (disabled(page, "#undo"), disabled(page, "#fill")) == (True, True)
    page.click("#redo")
    for expected in seen:
        page.click("#redo")
        assert (shown(page), shown(page, "#hole")) == expected
    assert disabled(page, "#redo")
    page.click("#history button:nth-child(2)")
    middle = saved(page, tmp_path)
    page.click("#history button:nth-child(3)")
    assert (saved(page, tmp_path) != middle).any()


def test_strokes_are_erased_and_cleared(page, tmp_path):
    stroke(page, (0.3, 0.5), (0.7, 0.5))
    assert mask(page, tmp_path)[96, 96] == 255
    tool(page, "erase")
    stroke(page, (0.5, 0.5))
    assert [mask(page, tmp_path)[96, at] for at in (60, 96)] == [255, 0]
    page.click("#clear")
    assert disabled(page, "#fill")
    page.click("#undo")
    assert not disabled(page, "#fill")


def test_only_the_left_button_and_one_finger_paint(page):
    empty = shown(page, "#hole")
    stroke(page, (0.4, 0.5), (0.6, 0.5), button="right")
    assert shown(page, "#hole") == empty
    left, top, width, height = picture_box(page)
    stroke(page, (0.4, 0.5), (0.6, 0.5), button="middle")
    assert picture_box(page)[:2] == pytest.approx((left + 0.2 * width, top), abs=1.5)
    assert disabled(page, "#undo")
    page.click("#zoom-fit")
    middle = (left + width / 2, top + height / 2)
    near, far = ([(middle[0] - by, middle[1]), (middle[0] + by, middle[1])] for by in (50, 100))
    page.touch(near, far)
    assert picture_box(page)[2] == pytest.approx(min(2 * width, page.box("#stage")[2]), abs=3)
    assert disabled(page, "#undo")
    page.touch([middle], [(middle[0] + 30, middle[1])])
    assert not disabled(page, "#undo")


def test_a_double_tap_changes_between_fitted_and_one_to_one(page):
    left, top, width, height = picture_box(page)
    assert width > SIDE
    finger = (left + width / 4, top + height / 4)
    page.touch([finger])
    page.touch([finger])
    page.wait("document.querySelector('#undo').disabled")
    box = picture_box(page)
    assert box[2:] == (SIDE, SIDE)
    assert (box[0] + SIDE / 4, box[1] + SIDE / 4) == pytest.approx(finger, abs=1.5)


def test_the_wheel_zooms_to_the_pointer_and_strokes_follow(page, tmp_path):
    left, top, width, height = picture_box(page)
    stroke(page, (0.5, 0.25))
    pointer = (left + 0.5 * width, top + 0.25 * height)
    page.wheel(*pointer, 120)
    zoomed = picture_box(page)
    assert zoomed[2] < width
    assert (zoomed[0] + 0.5 * zoomed[2], zoomed[1] + 0.25 * zoomed[3]) == pytest.approx(pointer, abs=1.5)
    stroke(page, (0.5, 0.75))
    made = mask(page, tmp_path)
    assert made[48, 96] == made[144, 96] == 255
    # The brush has its size on the screen: zoomed out it is larger in the picture.
    assert (made[96:] > 0).sum() > (made[:96] > 0).sum()
    page.key("0")
    assert picture_box(page) == (left, top, width, height)
    page.key("1")
    assert picture_box(page)[2] == SIDE


def test_space_and_the_pointer_move_the_view(page):
    left, top, *_ = picture_box(page)
    page.run("document.querySelector('#stage').focus()")
    page.key(" ", kinds=["keyDown"])
    page.drag((left + 50, top + 50), (left + 90, top + 70))
    page.key(" ", kinds=["keyUp"])
    assert picture_box(page)[:2] == pytest.approx((left + 40, top + 20), abs=1.5)
    assert disabled(page, "#undo")


def test_a_picture_is_enlarged_compared_and_keeps_its_strokes(page, tmp_path):
    before = shown(page)
    stroke(page, (0.25, 0.25), (0.5, 0.25))
    put(page, "#factor", 1.55)
    assert page.run("[width.value, height.value]") == ["298", "298"]
    work(page, "#enlarge")
    made = mask(page, tmp_path)
    assert made.shape == (298, 298)
    assert [made[74, at] for at in (74, 140, 200)] == [255, 255, 0]
    after = shown(page)
    assert picture_box(page)[2] > 500
    left, top, width, height = page.box("#hold")
    middle = {"x": left + width / 2, "y": top + height / 2, "button": "left", "clickCount": 1}
    page.call("Input.dispatchMouseEvent", type="mousePressed", **middle)
    page.wait("document.querySelector('#picture').toDataURL() && true")
    size = picture_box(page)
    held = shown(page)
    page.call("Input.dispatchMouseEvent", type="mouseReleased", **middle)
    assert held not in (after, before)
    assert size == picture_box(page)  # both fill the same box
    assert shown(page) == after
    assert not page.faults


def test_what_was_compressed_is_restored_and_what_is_to_be_is(page, tmp_path):
    Image.new("RGB", (24, 20), (90, 120, 60)).save(tmp_path / "small.jpg")
    put_up(page, tmp_path / "small.jpg", 24)
    labels = page.run("[...document.querySelector('#upscale-model').options].map(({text}) => text)")
    assert labels == ["Automatic", "Keep exactly (meta-sr-small)", "Restore (meta-sr-photo)"]
    put(page, "#factor", 1.2)
    for choice, model in (("", "meta-sr-photo"), ("", "meta-sr-small"), ("meta-sr-photo", "meta-sr-photo")):
        put(page, "#upscale-model", choice)
        work(page, "#enlarge")  # what the first has made is without loss
        assert f"enlarged by {model}" in text(page, "#status")


def test_the_slider_shows_before_on_its_left(page):
    column = """((share) => {
      const canvas = document.querySelector('#picture');
      const at = Math.round(canvas.width * share);
      return [...canvas.getContext('2d').getImageData(at, canvas.height / 2, 1, 1).data].join();
    })"""
    tool(page, "rectangle")
    stroke(page, (0.3, 0.3), (0.7, 0.7))
    given = page.run(f"{column}(0.5)")
    work(page, "#fill")
    filled = page.run(f"{column}(0.5)")
    assert filled != given
    page.click("#compare")
    left, top, width, height = picture_box(page)
    for share, expected in ((0.9, given), (0.1, filled)):
        page.drag((left + width / 2, top + height / 2), (left + width * share, top + height / 2))
        frames(page)
        assert page.run(f"{column}(0.5)") == expected
    assert pictures(page) == 2
    page.key("c")
    assert page.run("document.querySelector('#slider').hidden")


def test_rectangle_lasso_and_inversion_make_masks(page, tmp_path):
    tool(page, "rectangle")
    stroke(page, (0.25, 0.25), (0.75, 0.5))
    made = mask(page, tmp_path) > 127
    assert made[50:94, 50:142].all()
    assert made.sum() == pytest.approx(48 * 96, rel=0.05)
    tool(page, "lasso")
    stroke(page, (0.1, 0.6), (0.4, 0.6), (0.25, 0.9))
    made = mask(page, tmp_path) > 127
    assert made[125, 48]
    assert not made[165, 25]
    tool(page, "rectangle")
    stroke(page, (0.4, 0.3), (0.6, 0.4), modifiers=ALT)
    made = mask(page, tmp_path) > 127
    assert not made[66, 96]
    page.click("#invert")
    assert (mask(page, tmp_path) > 127).mean() == pytest.approx(1 - made.mean(), abs=0.001)


def test_masks_come_in_and_marks_are_made_again(page, tmp_path):
    given = np.zeros((SIDE, SIDE), np.uint8)
    given[20:60, 30:90] = 255
    Image.fromarray(given).save(tmp_path / "given.png")
    page.choose("#mask-file", tmp_path / "given.png")
    page.wait("!document.querySelector('#fill').disabled")
    assert (mask(page, tmp_path) == given).all()
    work(page, "#fill")
    assert disabled(page, "#fill")
    page.click("#again")
    assert (mask(page, tmp_path) == given).all()
    put(page, "#factor", 1.5)
    work(page, "#enlarge")
    assert (mask(page, tmp_path)[30:90, 45:135] > 127).all()


def test_everything_can_be_painted_with_keys(page, tmp_path):
    page.run("document.querySelector('#stage').focus()")
    for _ in range(3):
        page.key("]")
    page.key("ArrowLeft")  # the first shows the brush, in the middle
    page.key(" ")
    for _ in range(5):
        page.key("ArrowLeft")
    page.key(" ")
    made = mask(page, tmp_path)
    assert made[96, 96] == made[96, 86] == 255
    assert made[96, 115] == 0
    page.run("document.querySelector('#stage').focus()")
    page.key("Enter", CONTROL)
    page.wait(f"{IDLE} && document.querySelectorAll('#history button').length === 2")
    page.key("?")
    assert "smaller brush" in text(page, "dialog[open]")
    assert not page.faults


def test_brush_keys_change_its_size_and_letters_choose_tools(page):
    page.key("[")
    assert page.run("document.querySelector('#size').valueAsNumber") == 25
    for key, name in (("r", "rectangle"), ("l", "lasso"), ("o", "select"), ("e", "erase"), ("b", "hole")):
        page.key(key)
        assert page.run("document.querySelector('input[name=tool]:checked').value") == name


def test_filling_on_release(page):
    page.click("#at-once")
    stroke(page, (0.4, 0.5), (0.6, 0.5))
    page.wait(f"{IDLE} && document.querySelectorAll('#history button').length === 2")


def test_files_have_their_name_format_and_metadata(page, tmp_path):
    image = Image.new("RGB", (64, 48), (10, 200, 30))
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    image.save(tmp_path / "field.jpg", exif=exif)
    put_up(page, tmp_path / "field.jpg", 64)
    assert text(page, "#format option") == "As opened (JPEG)"
    stroke(page, (0.5, 0.5))
    work(page, "#fill")
    name = page.downloaded(lambda: page.click("#download"))
    assert name == "field-retouched.jpg"
    with Image.open(tmp_path / name) as written:
        assert (written.format, written.getexif()[0x010F]) == ("JPEG", "A camera")
    page.click("#keep")
    put(page, "#format", "webp")
    name = page.downloaded(lambda: page.click("#download"))
    with Image.open(tmp_path / name) as written:
        assert (written.format, dict(written.getexif())) == ("WEBP", {})


def opened(page: Browser) -> list[str]:
    """The open pictures' names, as the strip has them."""
    return page.run(
        "[...document.querySelectorAll('#album button:not(.close)')].map(({title}) => title.split(',')[0])"
    )


def test_open_pictures_keep_their_own_history_and_go_out_together(page, photograph, tmp_path):
    for folder, colour in (("one", (200, 30, 40)), ("two", (10, 90, 200))):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 30), colour).save(tmp_path / folder / "plain.png")
    (tmp_path / "note.txt").write_text("no picture")
    stroke(page, (0.25, 0.5))
    page.choose("#file", *(tmp_path / name for name in ("one/plain.png", "note.txt", "two/plain.png")))
    page.wait("document.querySelectorAll('#album button:not(.close)').length === 3")
    page.wait(IDLE)
    assert "2 pictures; 1 files cannot be read" in text(page, "#status")
    assert page.run("document.querySelector('#stage').dataset.width") == "40"
    assert disabled(page, "#undo")
    tool(page, "rectangle")
    stroke(page, (0.5, 0.5), (1, 1))
    work(page, "#fill")
    for key, width, changes in (("PageDown", "40", 0), ("PageDown", f"{SIDE}", 1), ("PageUp", "40", 0)):
        page.key(key)
        page.wait(f"document.querySelector('#stage').dataset.width === '{width}'")
        frames(page)
        assert disabled(page, "#undo") == (not changes)
    name = page.downloaded(lambda: page.click("#download-all"))
    with zipfile.ZipFile(tmp_path / name) as packed:
        assert packed.testzip() is None
        assert packed.namelist() == ["waves-retouched.png", "plain-retouched.png", "plain-retouched (2).png"]
        assert packed.read("waves-retouched.png") == photograph.read_bytes()
        assert packed.read("plain-retouched (2).png") == (tmp_path / "two/plain.png").read_bytes()
        with packed.open("plain-retouched.png") as file, Image.open(file) as filled:
            assert filled.size == (40, 30)
    page.click("#album .close")
    frames(page)
    assert opened(page) == ["plain.png", "plain.png"]
    assert not page.faults


def test_a_dropped_folder_is_opened_with_all_that_is_in_it(page, tmp_path):
    (tmp_path / "shots" / "more").mkdir(parents=True)
    for name in ("b.png", "a.jpg", "more/c.webp"):
        Image.new("RGB", (32, 24), (20, 120, 60)).save(tmp_path / "shots" / name)
    (tmp_path / "shots" / "note.txt").write_text("no picture")
    left, top, width, height = picture_box(page)
    page.drop(left + width / 2, top + height / 2, tmp_path / "shots")
    page.wait("document.querySelectorAll('#album button:not(.close)').length === 4")
    page.wait(IDLE)
    assert opened(page) == ["waves.png", "a.jpg", "b.png", "c.webp"]
    assert picture_box(page)[2:] == (96, 72)  # the first of them, three times its size


def test_the_hole_has_a_colour_and_an_edge_that_marches_where_motion_is_welcome(page):
    still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    edge = "document.querySelector('#edge').toDataURL()"
    empty = page.run(edge)
    tool(page, "rectangle")
    stroke(page, (0.25, 0.25), (0.75, 0.75))
    page.wait(f"{edge} !== {json.dumps(empty)}")
    drawn = page.run(edge)
    page.wait(f"{edge} !== {json.dumps(drawn)}")
    page.call("Emulation.setEmulatedMedia", features=still)
    drawn = page.run(edge)
    page.run("new Promise((over) => setTimeout(over, 300))")  # longer than two steps
    assert page.run(edge) == drawn
    page.call("Emulation.setEmulatedMedia", features=[])
    page.run("document.querySelector('#masks').open = true")
    for name, channel in (("Red", 0), ("Blue", 2)):
        put(page, "#ink", name)
        frames(page)
        middle = "canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 16, 16).data"
        data = page.run(f"((canvas) => [...{middle}])(document.querySelector('#hole'))")
        assert np.reshape(data, (-1, 4)).mean(0)[:3].argmax() == channel


def test_what_is_wrong_is_said(page):
    page.click("#masks summary")
    page.click("#invert")
    work(page, "#fill")
    assert "whole picture" in text(page, "#status")
    assert not disabled(page, "#fill")


def test_what_the_server_would_refuse_is_not_sent(page):
    put(page, "#width", SIDE * 8 + 1)
    assert "from 1 to 8" in text(page, "#enlarge-limit")
    assert disabled(page, "#enlarge")


def test_a_phone_sees_the_picture_and_the_controls(page):
    page.resize(390, 844, mobile=True)
    left, top, width, height = picture_box(page)
    assert width >= 190
    assert left >= 0
    assert left + width <= 390
    assert top + height < page.box("#controls")[1]
    assert page.run("document.documentElement.scrollWidth") <= 390
    for control in ("#fill", "#enlarge", "#hold", "#download"):
        page.run(f"document.querySelector('{control}').scrollIntoView()")
        _, top, _, height = page.box(control)
        assert top >= 0
        assert top + height <= 844


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_axe_finds_nothing(browser, page_server, photograph, scheme, path):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page_server.url + path)
    if path == "/":
        browser.wait(READY)
        put_up(browser, photograph, SIDE)
        browser.run("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    else:
        browser.wait("document.querySelectorAll('main details').length > 5")
        browser.run("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    browser.run(AXE + ";true")
    found = browser.run("axe.run().then((report) => report.violations)")
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert not [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


def test_nothing_comes_from_elsewhere(page_server):
    page = httpx.get(page_server.url + "/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for part in ("/", "/docs", "/web/retouch.js", "/web/retouch.css", "/web/reference.js"):
        content = httpx.get(page_server.url + part).text
        assert "http://" not in content
        assert "https://" not in content


def test_the_page_can_be_installed(browser, page_server):
    browser.open(page_server.url)
    manifest = browser.call("Page.getAppManifest")
    assert not manifest["errors"]
    about = json.loads(manifest["data"])
    for icon in about["icons"]:
        answer = httpx.get(f"{page_server.url}/web/{icon['src']}")
        assert answer.headers["content-type"] == icon["type"]
