"""A cached answer as bytes: a line of JSON with what the headers need, then the picture as it went out."""

from __future__ import annotations

import json
from typing import Any

from service.jobs.job import Result


def facts(result: Result) -> dict[str, Any]:
    """What of a result is neither its picture nor about the time that it took."""
    return {
        "media_type": result.media_type,
        "model": result.model,
        "width": result.width,
        "height": result.height,
        "hole": result.hole,
        "windows": result.windows,
    }


def pack(result: Result) -> bytes:
    return json.dumps(facts(result)).encode() + b"\n" + result.content


def unpack(entry: bytes) -> Result:
    head, _, content = entry.partition(b"\n")
    return Result(content=content, **json.loads(head))
