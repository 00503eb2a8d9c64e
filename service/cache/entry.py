"""A cached answer as bytes: a line of JSON with what the headers need, then the picture as it went out."""

from __future__ import annotations

import json

from service.jobs.job import Result


def pack(result: Result) -> bytes:
    head = {
        "media_type": result.media_type,
        "model": result.model,
        "width": result.width,
        "height": result.height,
        "hole": result.hole,
        "windows": result.windows,
    }
    return json.dumps(head).encode() + b"\n" + result.content


def unpack(entry: bytes) -> Result:
    head, _, content = entry.partition(b"\n")
    return Result(content=content, **json.loads(head))
