"""Answers in a cache: a line of JSON with what the headers need, then the picture as it went out."""

from __future__ import annotations

import json
from typing import Any

from service.cache.store import Cache
from service.contracts import Submit
from service.work import Result, Run


def about(result: Result) -> dict[str, Any]:
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
    return json.dumps(about(result)).encode() + b"\n" + result.content


def unpack(entry: bytes) -> Result:
    head, _, content = entry.partition(b"\n")
    return Result(content=content, **json.loads(head))


async def known(cache: Cache, key: str) -> Result | None:
    entry = await cache.get(key)
    return None if entry is None else unpack(entry)


class Caching:
    """Round whatever computes: what is known is not computed again, what is computed is known."""

    def __init__(self, submit: Submit, cache: Cache) -> None:
        self._submit, self._cache = submit, cache

    async def submit(self, run: Run) -> Result:
        if not run.looked_up and (answer := await known(self._cache, run.work.key)):
            return answer
        result = await self._submit(run)
        await self._cache.put(run.work.key, pack(result))
        return result
