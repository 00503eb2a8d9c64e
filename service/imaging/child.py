"""`python -m service.imaging.child FD`: decodes what is written to it, until its input ends.

A request is a line of JSON and the upload; the answer is a line of JSON, with pixels, alpha and metadata one
after the other in the file FD, which the parent has open too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import AvifImagePlugin

from service.errors import Problem, Unprocessable
from service.imaging.decode import decode_here
from service.imaging.limits import Limits
from service.imaging.picture import Picture
from service.imaging.structure import BROKEN

KEPT = 128 << 20  # addresses that it may take and not give back
FILES_FAULT = ("truncated", "broken data stream")  # as decoders say it
PARTS = ("pixels", "alpha", "icc", "exif")


def main() -> None:
    shared = int(sys.argv[1])
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    own = addresses()
    # A thread takes 72 MiB of addresses, whatever it does; as many as there are cores would not fit.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    cv2.setNumThreads(1)
    print(json.dumps({"ready": True}), flush=True)
    while line := requests.readline():
        asked = json.loads(line)
        data = requests.read(asked["bytes"])
        bound(resource.RLIMIT_CPU, int(computed() + asked["seconds"]) + 1)
        bound(resource.RLIMIT_AS, addresses() + asked["memory"])
        answer = answered(asked, data, shared)
        # The next request is read, and is measured, without the limits of this one.
        bound(resource.RLIMIT_CPU)
        bound(resource.RLIMIT_AS)
        answer["sound"] = answer.get("sound", True) and addresses() - own < KEPT
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def addresses() -> int:
    """Bytes of them that this process has taken; where that cannot be told, memory is not bounded."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 1 << 46
    return pages * resource.getpagesize()


def computed() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def bound(kind: int, most: int | None = None) -> None:
    """A limit is met by this process alone."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (hard if most is None else most, hard))


def answered(asked: dict[str, Any], data: bytes, shared: int) -> dict[str, Any]:
    try:
        picture = decode_here(data, Limits(*asked["limits"]), asked["keep_metadata"])
        return {"gray": picture.gray, "parts": lay_out(picture, shared)}
    except MemoryError:
        problem: Problem = Unprocessable(BROKEN)
        cause: object = "memory"
    except Problem as raised:
        problem, cause = raised, raised.__context__
    told = {"problem": type(problem).__name__, "detail": problem.detail, "extra": problem.extra}
    # What ran out of memory says so in many ways, and in what state it left its decoder nobody knows.
    return told | {"sound": cause is None or any(words in str(cause).lower() for words in FILES_FAULT)}


def lay_out(picture: Picture, shared: int) -> dict[str, Any]:
    """Each part's start, shape and type."""
    found = {name: getattr(picture, name) for name in PARTS}
    parts = {
        name: np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
        for name, part in found.items()
        if part is not None
    }
    placed: dict[str, Any] = {}
    at = 0
    for name, part in parts.items():
        placed[name] = (at, part.shape, part.dtype.str)
        content = np.ascontiguousarray(part).data.cast("B")
        while content:  # what is written at once has an end
            written = os.pwrite(shared, content, at)
            content, at = content[written:], at + written
    return placed


if __name__ == "__main__":
    main()
