"""A real Chromium without a window, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

PATIENCE = 60.0  # seconds
NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browsing(folder: Path, width: int = 1280, height: int = 800) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise RuntimeError("this test drives a real browser: install chromium")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    with subprocess.Popen(
        [program, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            marker = "DevTools listening on ws://"
            line = next(line for line in process.stderr if marker in line)
            address = line.partition(marker)[2].partition("/")[0]
            pages = httpx.get(f"http://{address}/json/list", timeout=PATIENCE).json()
            page = next(target for target in pages if target["type"] == "page")
            with connect(page["webSocketDebuggerUrl"], max_size=None, open_timeout=PATIENCE) as socket:
                browser = Browser(socket)
                browser.resize(width, height)
                yield browser
        finally:
            process.kill()


class Browser:
    """One page; every wait of its own ends in an error after PATIENCE."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.calls = 0
        self.faults: list[str] = []  # what the page's scripts did not catch, and what it could not load
        self.loaded = False
        self.files: list[str] = []  # downloaded
        self.downloading = ""
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(PATIENCE))
            if message.get("id") == self.calls:
                assert "error" not in message, message
                return dict(message["result"])
            self.hear(message)

    def hear(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Page.loadEventFired":
                self.loaded = True
            case "Browser.downloadWillBegin":
                self.downloading = event["params"]["suggestedFilename"]
            case "Browser.downloadProgress" if event["params"]["state"] == "completed":
                self.files.append(self.downloading)
            case "Runtime.exceptionThrown":
                self.faults.append(str(event["params"]["exceptionDetails"]))
            case "Log.entryAdded" if event["params"]["entry"]["level"] == "error":
                self.faults.append(str(event["params"]["entry"]))

    def open(self, url: str) -> None:
        self.loaded = False
        self.call("Page.navigate", url=url)
        while not self.loaded:
            self.hear(json.loads(self.socket.recv(PATIENCE)))

    def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it gives."""
        answer = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            timeout=PATIENCE * 1000,
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true, looked at whenever the page draws."""
        self.run(
            f"""new Promise((resolve, reject) => {{
              const late = performance.now() + {PATIENCE * 1000};
              const look = () => ({condition}) ? resolve(true)
                : performance.now() > late ? reject(new Error("in vain"))
                : requestAnimationFrame(look);
              look();
            }})"""
        )

    def choose(self, selector: str, *files: Path) -> None:
        handle = self.call("Runtime.evaluate", expression=f"document.querySelector({selector!r})")
        paths = [str(file) for file in files]
        self.call("DOM.setFileInputFiles", files=paths, objectId=handle["result"]["objectId"])

    def drop(self, x: float, y: float, *paths: Path) -> None:
        """Files or folders, dragged in from outside and let go."""
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def drag(self, *points: tuple[float, float], button: str = "left", modifiers: int = 0) -> None:
        """The mouse, pressed at the first point and let go at the last."""
        held = {"left": 1, "right": 2, "middle": 4}[button]
        for kind, (x, y) in (
            ("mousePressed", points[0]),
            *(("mouseMoved", point) for point in points),
            ("mouseReleased", points[-1]),
        ):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button=button,
                buttons=held,
                clickCount=1,
                modifiers=modifiers,
            )

    def wheel(self, x: float, y: float, turned: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=turned)

    def touch(self, *moments: Sequence[tuple[float, float]]) -> None:
        """Fingers where they are at each moment; they come down one by one, and leave together at the end."""
        for count in range(1, len(moments[0]) + 1):
            self._fingers("touchStart", moments[0][:count])
        for fingers in moments[1:]:
            self._fingers("touchMove", fingers)
        self._fingers("touchEnd", ())

    def _fingers(self, kind: str, fingers: Sequence[tuple[float, float]]) -> None:
        points = [{"x": x, "y": y, "id": id} for id, (x, y) in enumerate(fingers)]
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'nearest'}})")
        left, top, width, height = self.box(selector)
        self.drag((left + width / 2, top + height / 2))

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height, in pixels of the view."""
        found = self.run(
            f"(({{x, y, width, height}}) => [x, y, width, height])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        return tuple(found)

    def key(self, name: str, modifiers: int = 0, kinds: Sequence[str] = ("keyDown", "keyUp")) -> None:
        for kind in kinds:
            self.call("Input.dispatchKeyEvent", type=kind, key=name, modifiers=modifiers)

    def downloads(self, folder: Path) -> None:
        """Where files go from now on."""
        self.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True
        )

    def downloaded(self, act: Callable[[], None]) -> str:
        """The name of the file that comes of doing something, once it is there."""
        self.files.clear()
        act()
        while not self.files:
            self.hear(json.loads(self.socket.recv(PATIENCE)))
        return self.files.pop()

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
