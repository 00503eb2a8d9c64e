"""What a visitor does on the page and sees there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.service.browser import Browser

READY = "document.body.dataset.ready"
IDLE = "!document.body.hasAttribute('data-busy')"
ALT, CONTROL = 1, 2  # modifiers


def put_up(page: Browser, photograph: Path, width: int) -> None:
    page.choose("#file", photograph)
    page.wait(f"document.querySelector('#stage').dataset.width === '{width}'")
    frames(page)


def frames(page: Browser) -> None:
    """What was asked for is drawn."""
    page.run("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")


def picture_box(page: Browser) -> tuple[float, float, float, float]:
    """Where in the window the picture lies, found by its pixels: left, top, width, height."""
    frames(page)
    box = page.run(
        """(() => {
          const canvas = document.querySelector('#picture');
          const {data, width} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          let [left, top, right, bottom] = [1e9, 1e9, -1, -1];
          for (let at = 3; at < data.length; at += 4) if (data[at] > 127) {
            const x = (at >> 2) % width, y = Math.floor((at >> 2) / width);
            left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = y;
          }
          return [left, top, right + 1 - left, bottom + 1 - top];
        })()"""
    )
    left, top, _, _ = page.box("#stage")
    return left + box[0], top + box[1], box[2], box[3]


def stroke(page: Browser, *points: tuple[float, float], **options: object) -> None:
    """Painted at shares of the picture's sides."""
    left, top, width, height = picture_box(page)
    page.drag(*((left + x * width, top + y * height) for x, y in points), **options)
    frames(page)


def tool(page: Browser, name: str) -> None:
    page.run(f"document.querySelector('input[name=tool][value={name}]').click()")


def put(page: Browser, selector: str, value: object) -> None:
    page.run(
        f"((input) => {{ input.value = {json.dumps(value)}; input.dispatchEvent(new Event('input'));"
        f"input.dispatchEvent(new Event('change')) }})(document.querySelector({selector!r}))"
    )


def exactly(page: Browser) -> None:
    """Only what is painted is to change."""
    put(page, "#grow", 0)
    put(page, "#feather", 0)


def disabled(page: Browser, selector: str) -> bool:
    return page.run(f"document.querySelector({selector!r}).disabled")


def text(page: Browser, selector: str) -> str:
    return page.run(f"document.querySelector({selector!r}).textContent")


def pictures(page: Browser) -> int:
    return page.run("document.querySelectorAll('#history button').length")


def work(page: Browser, selector: str) -> None:
    """Pressed, and over."""
    number = max(1, pictures(page)) + 1
    page.click(selector)
    page.wait(
        f"{IDLE} && (document.querySelectorAll('#history button').length === {number}"
        " || document.querySelector('#status.error'))"
    )
    frames(page)


def saved(page: Browser, folder: Path) -> np.ndarray:
    name = page.downloaded(lambda: page.click("#download"))
    return np.asarray(Image.open(folder / name).convert("RGB"))


def mask(page: Browser, folder: Path) -> np.ndarray:
    page.run("document.querySelector('#masks').open = true")
    name = page.downloaded(lambda: page.click("#mask-save"))
    return np.asarray(Image.open(folder / name).convert("L"))


def shown(page: Browser, canvas: str = "#picture") -> str:
    """A digest of what is drawn."""
    frames(page)
    return hashlib.sha256(page.run(f"document.querySelector('{canvas}').toDataURL()").encode()).hexdigest()
