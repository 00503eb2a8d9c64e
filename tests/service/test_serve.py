"""The whole service as its user runs it: a process of its own, spoken to over HTTP."""

from __future__ import annotations

import io
import re
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from models.checkpoints.own import make_default
from tests.service.engines import until
from tests.service.server import Server

OWN = """
[[model]]
name = "own"
architecture = "patchmatch"
licence = "none"
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    (folder / "manifest.toml").write_text(OWN)
    return folder


@pytest.fixture(scope="module")
def server(weights: Path) -> Iterator[Server]:
    running = Server(weights_dir=str(weights), admin_key="boss")
    yield running
    running.kill()


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 8, (height, width))
    planes = [(rows * 2 + noise) % 256, (columns * 3 + noise) % 256, (rows + columns + noise) % 256]
    return np.stack(planes, -1).astype(np.uint8)


def square_hole(height: int, width: int, side: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    mask[top : top + side, left : left + side] = 255
    return mask


def test_it_says_where_it_is(server):
    assert server.url in server.greeting
    assert "cpu" in server.greeting or "cuda" in server.greeting


def test_a_hole_is_filled_and_the_rest_untouched(server):
    image, mask = photo(70, 90), square_hole(70, 90, 20)
    response = httpx.post(server.url + "/inpaint", files={"image": png(image), "mask": png(mask)}, timeout=60)
    assert response.status_code == 200, response.text
    answer = pixels_of(response.content)
    assert answer.shape == image.shape
    assert np.array_equal(answer[mask == 0], image[mask == 0])
    assert float(response.headers["x-hole"]) == pytest.approx(400 / 6300, abs=1e-4)
    assert {"decode", "queue", "compute", "encode", "cache"} <= set(
        re.findall(r"(\w+);dur", response.headers["server-timing"])
    )


def test_an_empty_mask_is_the_picture_and_a_full_one_is_refused(server):
    image = photo(40, 40)
    empty = httpx.post(server.url + "/inpaint", files={"image": png(image), "mask": png(image[..., 0] * 0)})
    assert empty.status_code == 200
    assert np.array_equal(pixels_of(empty.content), image)
    full = httpx.post(
        server.url + "/inpaint", files={"image": png(image), "mask": png(image[..., 0] * 0 + 255)}
    )
    assert full.status_code == 422


@pytest.mark.parametrize(("scale", "size"), [("1", (31, 40)), ("2.7", (84, 108)), ("1.37", (42, 55))])
def test_enlarging_meets_the_size(server, scale, size):
    image = photo(31, 40)
    response = httpx.post(server.url + f"/upscale?scale={scale}", files={"image": png(image)}, timeout=60)
    assert response.status_code == 200, response.text
    answer = pixels_of(response.content)
    assert answer.shape == (*size, 3)
    if scale == "1":
        assert np.array_equal(answer, image)


def test_compressed_pictures_are_restored_while_they_are_enlarged(server):
    image = photo(31, 40)
    compressed = io.BytesIO()
    Image.fromarray(image).save(compressed, "JPEG", quality=60)

    def model(content: bytes, **asked: str) -> str:
        response = httpx.post(server.url + "/upscale", params=asked, files={"image": content}, timeout=60)
        assert response.status_code == 200, response.text
        return response.headers["x-model"]

    assert model(compressed.getvalue(), scale="2") == "meta-sr-photo"
    assert model(compressed.getvalue(), scale="1") == "meta-sr-small"  # which gives it back as it is
    assert model(png(image), scale="2") == "meta-sr-small"
    assert model(compressed.getvalue(), scale="2", model="meta-sr-small") == "meta-sr-small"


def default_of(server: Server) -> str:
    rows = httpx.get(server.url + "/models").json()["models"]
    return next(row["name"] for row in rows if row["default"] and row["task"] == "inpaint")


def test_another_default_answers_without_a_new_start(server, weights, monkeypatch):
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(weights))
    files = {"image": png(photo(64, 64)), "mask": png(square_hole(64, 64, 20))}
    before = default_of(server)
    given = httpx.post(server.url + "/inpaint", files=files)
    make_default("own", weights)
    assert httpx.post(server.url + "/inpaint", files=files).headers["x-model"] == before
    server.process.send_signal(signal.SIGHUP)
    until(lambda: default_of(server) == "own", 30)
    filled = httpx.post(server.url + "/inpaint", files=files)
    assert (filled.headers["x-model"], filled.headers["x-cache"]) == ("own", "miss")

    # What is under way when its model goes is still answered by it.
    large = {"image": png(photo(700, 700)), "mask": png(square_hole(700, 700, 500))}
    began = server.metric("retouch_cache_total")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, server.url + "/inpaint", files=large, timeout=120)
        until(lambda: server.metric("retouch_cache_total") > began, 30)
        (weights / "manifest.toml").write_text("")
        reload = partial(httpx.post, server.url + "/models/reload", timeout=60)
        assert reload().status_code == 401
        rows = reload(headers={"X-API-Key": "boss"}).json()["models"]
        assert not answer.done()
        assert answer.result().headers["x-model"] == "own"
    assert "own" not in [row["name"] for row in rows]
    assert httpx.post(server.url + "/inpaint?model=own", files=files).status_code == 404
    again = httpx.post(server.url + "/inpaint", files=files)
    assert (again.headers["x-cache"], again.content) == ("hit", given.content)


def test_what_cannot_be_taken_changes_nothing(server, weights):
    reload = partial(httpx.post, server.url + "/models/reload", headers={"X-API-Key": "boss"}, timeout=60)
    known = httpx.get(server.url + "/models").json()
    other = OWN + "arguments = { size = 5 }\n"
    for text, status, word in (("[[model", 503, "manifest"), (other, 422, "other weights")):
        (weights / "manifest.toml").write_text(text)
        refused = reload()
        assert refused.status_code == status
        assert word in refused.json()["detail"]
        assert httpx.get(server.url + "/models").json() == known


def test_an_abandoned_request_costs_no_compute(server):
    before = server.metric("retouch_batch_size_sum")
    image, mask = photo(256, 256, 3), square_hole(256, 256, 150)
    request = httpx.Request("POST", server.url + "/inpaint", files={"image": png(image), "mask": png(mask)})
    body = request.read()
    head = f"POST /inpaint HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += f"Content-Type: {request.headers['content-type']}\r\n\r\n"
    port = int(server.url.rpartition(":")[2])
    # Distinct queries, so that they are not one flight; each leaves right after its upload.
    for number in range(12):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            text = head.replace("/inpaint", f"/inpaint?feather={number}")
            connection.sendall(text.encode() + body)
    response = httpx.post(
        server.url + "/inpaint", files={"image": png(image), "mask": png(mask)}, timeout=120
    )
    assert response.status_code == 200
    # One window is this last request's, and some were computed before their client was seen to leave.
    assert server.metric("retouch_batch_size_sum") - before < 8


def test_it_holds_as_many_connections_as_the_system_lets_it():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))
    try:
        server = Server()
        allowed = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        server.kill()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert allowed == (before[1], before[1])


def test_it_serves_under_a_proxys_prefix():
    """Which the proxy has taken off, and which callers must send: addresses that we give bear it."""
    server = Server(root_path="/tools/retouch")
    try:
        files = {"image": png(photo(20, 30))}
        made = httpx.post(server.url + "/jobs/upscale?scale=2", files=files, timeout=60)
        assert made.headers["location"].startswith("/tools/retouch/jobs/")
        assert made.json()["links"]["result"] == made.headers["location"] + "/result"
        assert httpx.get(server.url + "/web/retouch.css").status_code == 200
        assert httpx.get(server.url + "/openapi.json").json()["servers"] == [{"url": "/tools/retouch"}]
        own = made.headers["location"].removeprefix("/tools/retouch")
        events = httpx.head(f"{server.url}{own}/events", timeout=30)
        assert events.headers["content-type"].startswith("text/event-stream")
        assert httpx.head(server.url + "/healthz").headers["content-length"] == "18"
    finally:
        server.kill()


def test_a_flood_is_answered_or_refused_with_a_time_to_return():
    server = Server(max_wait="1.0", cache_bytes="0")
    image, mask = photo(160, 160), square_hole(160, 160, 60)

    def ask(number: int) -> tuple[int, float, str]:
        picture = image.copy()
        picture[0, 0] = number % 256
        files = {"image": png(picture), "mask": png(mask)}
        started = time.monotonic()
        response = httpx.post(server.url + "/inpaint", files=files, timeout=120)
        return response.status_code, time.monotonic() - started, response.headers.get("retry-after", "")

    try:
        ask(0)  # the first measures how long a window takes
        with ThreadPoolExecutor(48) as pool:
            answers = list(pool.map(ask, range(1, 97)))
        assert {status for status, _, _ in answers} <= {200, 429, 503}
        assert any(status == 200 for status, _, _ in answers)
        assert all(back.isdecimal() for status, _, back in answers if status != 200)
        assert any(status != 200 for status, _, _ in answers)
        assert server.stop() == 0
    finally:
        server.kill()


def test_sigterm_finishes_what_was_accepted():
    server = Server()
    image, mask = photo(200, 200), square_hole(200, 200, 80)
    statuses: list[int] = []

    def ask(number: int) -> None:
        files = {"image": png(image), "mask": png(mask)}
        statuses.append(
            httpx.post(f"{server.url}/inpaint?feather={number}", files=files, timeout=60).status_code
        )

    try:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: server.metric("retouch_cache_total") >= 4, 30)  # the requests have come in
        assert server.stop() == 0
        for thread in threads:
            thread.join()
        assert statuses == [200] * 4
    finally:
        server.kill()
