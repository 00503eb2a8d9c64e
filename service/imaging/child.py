"""`python -m service.imaging.child FD`: decodes what is written to it, until its input ends.

A request is a line of JSON and the upload; the answer is a line of JSON, with pixels, alpha and metadata one
after the other in the file FD, which the parent has open too.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from service.errors import Problem
from service.imaging.decode import decode_here
from service.imaging.limits import Limits
from service.imaging.picture import Picture

PARTS = ("pixels", "alpha", "icc", "exif")


def main() -> None:
    shared = int(sys.argv[1])
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    own = resident()
    print(json.dumps({"ready": True}), flush=True)
    while line := requests.readline():
        asked = json.loads(line)
        data = requests.read(asked["bytes"])
        bound(own + asked["memory"], asked["seconds"])
        answers.write(json.dumps(answered(asked, data, shared)).encode() + b"\n")
        answers.flush()


def resident() -> int:
    """The addresses that this process has taken already; where that cannot be told, memory is not bounded."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 1 << 46
    return pages * resource.getpagesize()


def bound(memory: int, seconds: float) -> None:
    """Of addresses, and of computing from now on: a limit is met by this process alone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory, hard))


def answered(asked: dict[str, Any], data: bytes, shared: int) -> dict[str, Any]:
    try:
        picture = decode_here(data, Limits(*asked["limits"]), asked["keep_metadata"])
        return {"gray": picture.gray, "parts": lay_out(picture, shared)}
    except Problem as problem:
        return {"problem": type(problem).__name__, "detail": problem.detail, "extra": problem.extra}


def lay_out(picture: Picture, shared: int) -> dict[str, Any]:
    """Each part's start, shape and type."""
    found = {name: getattr(picture, name) for name in PARTS}
    parts = {
        name: np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
        for name, part in found.items()
        if part is not None
    }
    os.ftruncate(shared, max(1, sum(part.nbytes for part in parts.values())))
    placed: dict[str, Any] = {}
    at = 0
    with mmap.mmap(shared, 0) as memory:
        for name, part in parts.items():
            memory[at : at + part.nbytes] = part.tobytes()
            placed[name] = (at, part.shape, part.dtype.str)
            at += part.nbytes
    return placed


if __name__ == "__main__":
    main()
