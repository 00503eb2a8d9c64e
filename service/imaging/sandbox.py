"""Decoding in children: for formats whose decoders a file can keep busy, or make take memory.

A child is bounded in memory and computing time, is ended when the time is up, and dies with its parent. A
decoder that crashes takes its child along and nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import numpy as np

from service import errors
from service.errors import Unprocessable
from service.imaging.limits import Limits
from service.imaging.picture import Picture

# What decoding may cost beside a start: bytes a pixel (16 bits, four channels, converted twice) and
# seconds of computing a megapixel. The slowest honest format, AVIF, takes a tenth of that.
BYTES, BYTES_A_PIXEL = 256 << 20, 32
SECONDS, SECONDS_A_MEGAPIXEL = 3.0, 0.3
START = 30.0  # seconds that a child may take to begin

CRASHED = "The picture cannot be decoded: its decoder failed on it."
SLOW = "The picture takes too long to decode; save it again in a plain format."


class Child:
    def __init__(self) -> None:
        self.sound = True  # whether it may be asked again
        self._shared = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 -- closed with the child
        descriptor = self._shared.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service.imaging.child", str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[descriptor],
        )
        self._asked(b"", START)

    def decode(self, data: bytes, limits: Limits, pixels: int, keep_metadata: bool) -> Picture:
        seconds = SECONDS + SECONDS_A_MEGAPIXEL * pixels / 1e6
        asked = {
            "bytes": len(data),
            "limits": [limits.max_pixels, limits.max_side],
            "keep_metadata": keep_metadata,
            "memory": BYTES + BYTES_A_PIXEL * pixels,
            "seconds": seconds,
        }
        self.sound = False
        # Computing time is the child's own bound; this one ends a child that does nothing.
        answer = self._asked(json.dumps(asked).encode() + b"\n" + data, min(limits.seconds, 4 * seconds))
        self.sound = answer["sound"]
        if "problem" in answer:
            raise getattr(errors, answer["problem"])(answer["detail"], **answer["extra"])
        return self._picture(answer)

    def _asked(self, request: bytes, seconds: float) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        end = threading.Timer(seconds, self._process.kill)
        latest = time.monotonic() + seconds
        end.start()
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            end.cancel()
        if not line:
            if self._process.wait() == -signal.SIGXCPU or time.monotonic() >= latest:
                raise Unprocessable(SLOW)
            raise Crashed
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _picture(self, answer: dict[str, Any]) -> Picture:
        parts: dict[str, Any] = {}
        for name, (start, shape, dtype) in answer["parts"].items():
            parts[name] = np.empty(shape, dtype)
            self._shared.seek(start)
            if self._shared.readinto(parts[name]) != parts[name].nbytes:
                raise Crashed
        self._shared.truncate(0)  # what was decoded does not stay in memory
        metadata = {name: parts[name].tobytes() for name in ("icc", "exif") if name in parts}
        return Picture(parts["pixels"], parts.get("alpha"), answer["gray"], **metadata)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._shared.close()


class Crashed(Exception):
    """The child is no more, and not because its time was up."""


class Sandbox:
    """Children, begun when they are needed and kept."""

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[Child] = queue.LifoQueue()

    def decode(self, data: bytes, limits: Limits, pixels: int, keep_metadata: bool) -> Picture:
        """As many at once as there are callers."""
        with contextlib.suppress(queue.Empty):
            used = self._idle.get_nowait()
            with contextlib.suppress(Crashed):  # of what it decoded before, perhaps
                return self._decoded(used, data, limits, pixels, keep_metadata)
        try:
            return self._decoded(Child(), data, limits, pixels, keep_metadata)
        except Crashed:
            raise Unprocessable(CRASHED) from None

    def _decoded(self, child: Child, *asked: Any) -> Picture:
        try:
            return child.decode(*asked)
        finally:
            if child.sound:
                self._idle.put(child)
            else:
                child.close()

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get_nowait().close()


sandbox = Sandbox()
atexit.register(sandbox.close)
