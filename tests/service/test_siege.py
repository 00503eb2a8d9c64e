"""Attacks that once took the service down, by name; each is bounded, and against this machine alone."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service import protocol
from service.errors import Unprocessable
from service.imaging import sandbox as sandbox_module
from service.imaging.decode import decode, decode_here
from service.imaging.limits import Limits
from service.imaging.picture import Picture
from service.imaging.sandbox import Child, Sandbox
from service.imaging.structure import MANY_CHUNKS, MAX_SCANS, is_plain
from tests.service.dispatchers import EchoDispatcher, app_of
from tests.service.engines import until
from tests.service.hostile import chunk
from tests.service.pictures import noise, png
from tests.service.server import Server

LIMITS = Limits(50_000_000, 16_384)


def saved(pixels: np.ndarray, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


def lying_png() -> bytes:
    """63 bytes of which one part says that it has four billion: OpenCV made room for them."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + struct.pack(">I", 2**32 - 1) + b"IDAT" + b"x" * 22


def many_scans(scans: int) -> bytes:
    """A progressive picture whose last scan comes again and again: each runs over all pixels."""
    picture = saved(noise(64, 64), "JPEG", progressive=True)
    last = picture.rindex(b"\xff\xda")
    return picture[:last] + picture[last:-2] * scans + picture[-2:]


def test_a_length_that_lies_makes_no_memory():
    assert len(lying_png()) == 63
    script = """
import resource, sys
from service.imaging.decode import decode
from service.imaging.limits import Limits
data = sys.stdin.buffer.read()
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
try:
    decode(data, Limits(10**7, 10**4))
except Exception as error:
    # Not what getrusage says: that begins with what the process had before it became this one.
    (peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(type(error).__name__, peak)
"""
    ran = subprocess.run([sys.executable, "-c", script], input=lying_png(), capture_output=True, check=True)
    name, peak = ran.stdout.split()
    assert name == b"Unprocessable"
    assert int(peak) < 300_000  # kilobytes


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded():
    assert decode(many_scans(20), LIMITS).size == (64, 64)
    started = time.monotonic()
    with pytest.raises(Unprocessable, match=f"more than {MAX_SCANS} scans"):
        decode(many_scans(3000), LIMITS)
    assert time.monotonic() - started < 5


def test_plain_kinds_are_told_from_those_that_go_to_a_child():
    pixels = noise(16, 16)
    assert is_plain(saved(pixels, "PNG"))
    assert is_plain(saved(pixels, "JPEG"))
    assert is_plain(saved(pixels[..., 0], "JPEG", progressive=True))
    for data in (
        png(noise(16, 16, dtype=np.uint16)),
        saved(pixels, "WEBP"),
        saved(pixels, "TIFF"),
        saved(pixels, "GIF"),
        saved(pixels, "BMP"),
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
        + chunk(b"tEXt", b"") * (MANY_CHUNKS + 1),
    ):
        assert not is_plain(data)


@pytest.mark.parametrize("format", ["WEBP", "TIFF", "GIF", "BMP"])
def test_a_child_decodes_as_this_process_does(format):
    data = saved(noise(40, 30), format)
    there, here = decode(data, LIMITS, True), decode_here(data, LIMITS, True)
    assert np.array_equal(there.pixels, here.pixels)
    assert (there.alpha is None, there.gray, there.icc) == (here.alpha is None, here.gray, here.icc)


def test_what_takes_too_long_is_ended_and_the_next_is_decoded():
    data = saved(noise(900, 900), "WEBP", lossless=True)
    decode(data, LIMITS)
    with pytest.raises(Unprocessable, match="too long"):
        decode(data, Limits(50_000_000, 16_384, seconds=0.001))
    assert decode(data, LIMITS).size == (900, 900)


@pytest.fixture
def own() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not bounded")
@pytest.mark.parametrize("memory", [1 << 20, 8 << 20])  # where it ends is where it runs out
def test_what_takes_too_much_memory_fails_in_its_child_alone(monkeypatch, own, memory):
    data = saved(noise(1200, 1200), "WEBP", quality=50)
    assert own.decode(data, LIMITS, 1_440_000, False).size == (1200, 1200)
    child = pid(own)
    with monkeypatch.context() as patch:
        patch.setattr(sandbox_module, "BYTES", memory)
        patch.setattr(sandbox_module, "BYTES_A_PIXEL", 0)
        with pytest.raises(Unprocessable):
            own.decode(data, LIMITS, 1_440_000, False)
    assert gone(child)  # whose decoder is in a state that nobody knows
    assert own.decode(data, LIMITS, 1_440_000, False).size == (1200, 1200)


def test_a_broken_picture_costs_no_child(own):
    data = saved(noise(30, 30), "TIFF")
    own.decode(data, LIMITS, 900, False)
    child = pid(own)
    with pytest.raises(Unprocessable, match="broken"):
        own.decode(data[: len(data) // 2], LIMITS, 900, False)
    assert pid(own) == child


def test_a_decoder_that_crashes_costs_one_request(own, monkeypatch):
    data = saved(noise(30, 30), "WEBP")
    monkeypatch.setattr(sandbox_module, "Child", Crashing)
    with pytest.raises(Unprocessable, match="failed on it"):
        own.decode(data, LIMITS, 900, False)
    monkeypatch.undo()
    assert own.decode(data, LIMITS, 900, False).size == (30, 30)


class Crashing(Child):
    def decode(self, *asked: Any) -> Picture:
        self._process.send_signal(signal.SIGSEGV)
        return super().decode(*asked)


def test_a_child_that_died_since_its_last_picture_is_replaced(own):
    data = saved(noise(30, 30), "WEBP")
    own.decode(data, LIMITS, 900, False)
    os.kill(pid(own), signal.SIGKILL)
    assert own.decode(data, LIMITS, 900, False).size == (30, 30)


def pid(own: Sandbox) -> int:
    return own._idle.queue[0]._process.pid


def test_children_end_with_their_parent():
    script = """
import sys
from service.imaging.decode import decode
from service.imaging.limits import Limits
from service.imaging.sandbox import sandbox
decode(sys.stdin.buffer.read(), Limits(10**7, 10**4))
print(sandbox._idle.queue[0]._process.pid, flush=True)
import os
os._exit(0)
"""
    data = saved(noise(30, 30), "WEBP")
    ran = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    pid = int(ran.stdout)
    until(lambda: gone(pid), 10)


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server(upload_bytes="20000000", max_bytes="10000000", body_timeout="5")
    yield running
    running.kill()


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=30)


def test_requests_sent_ahead_make_no_memory(server):
    before = server.memory()
    flood = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 2000
    for _ in range(20):
        with connected(server) as connection:
            try:
                for _ in range(20):  # 1.4 MB a connection, if it lasts
                    connection.sendall(flood)
            except OSError:
                continue
    assert httpx.get(server.url + "/healthz").status_code == 200
    assert server.memory() - before < 60e6


def test_a_few_requests_sent_ahead_are_all_answered(server):
    with connected(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * protocol.PIPELINED)
        answers = b""
        while answers.count(b"alive") < protocol.PIPELINED:
            read = connection.recv(65536)
            assert read, answers
            answers += read


def test_a_head_without_end_is_cut_off(server):
    with connected(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 30_000)
        try:
            for _ in range(20):
                connection.sendall(b"y" * 30_000)
        except OSError:
            pass
        assert b" 431 " in received(connection)
    with connected(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n")
        assert b" 400 " in received(connection)


def received(connection: socket.socket) -> bytes:
    answer = b""
    try:
        while read := connection.recv(65536):
            answer += read
    except OSError:
        pass
    return answer


def test_silent_and_half_sent_connections_end(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)

    async def run() -> None:
        import uvicorn

        config = uvicorn.Config(app_of(EchoDispatcher()), log_config=None)
        config.load()
        state = uvicorn.server.ServerState()
        loop = asyncio.get_running_loop()

        def made() -> protocol.BoundedProtocol:
            return protocol.BoundedProtocol(
                config=config, server_state=state, app_state={}, max_connections=2
            )

        listening = await loop.create_server(made, "127.0.0.1", 0)
        address = listening.sockets[0].getsockname()
        for sent in (b"", b"GET / HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET"):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(sent)
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        held = [await asyncio.open_connection(*address) for _ in range(3)]
        assert await asyncio.wait_for(held[2][0].read(), 5) == b""
        for _, writer in held:
            writer.close()
        listening.close()

    asyncio.run(run())


def test_uploads_that_never_end_are_bounded_together(server):
    """Each is held one byte short of its end."""
    before, held, refused = server.memory(), [], 0
    head = b"POST /upscale?scale=2 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    head += b"Connection: close\r\nContent-Length: 8000000\r\n\r\n"
    try:
        for _ in range(8):
            connection = connected(server)
            held.append(connection)
            connection.sendall(head)
            try:
                connection.sendall(b"x" * 7_999_999)
            except OSError:
                refused += 1
                continue
        until(lambda: server.metric("retouch_request_seconds_count") > 0, 10)
        answers = [received(connection) for connection in held]
        statuses = [answer.split(b" ", 2)[1] for answer in answers if answer]
        assert statuses.count(b"503") >= 5
        assert b"retry-after" in b"".join(answers).lower()
        assert server.memory() - before < 120e6
    finally:
        for connection in held:
            connection.close()
    until(lambda: upscaled(server) == 200, 15)


def upscaled(server: Server) -> int:
    return httpx.post(server.url + "/upscale?scale=1", files={"image": png(noise(8, 8))}).status_code
