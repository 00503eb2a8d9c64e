"""Answers in a cache: what kind of entry it is, a line of JSON with what the headers need, then the picture.

Others may write into the same Redis, and memory errs: an entry that is not as it was written for this key
counts as none.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from service.cache.store import Cache
from service.contracts import Submit
from service.work import MEDIA_TYPES, Result, Run

log = logging.getLogger("retouch.cache")

KIND = b"retouch answer 1"
ABOUT = [each.name for each in fields(Result) if each.name not in ("content", "timings")]


def about(result: Result) -> dict[str, Any]:
    """What of a result is neither its picture nor about the time that it took."""
    return {name: getattr(result, name) for name in ABOUT}


def result_from(head: Mapping[str, Any], content: bytes, timings: dict[str, float] | None = None) -> Result:
    """A result of what was written about it, perhaps by another release; ValueError if that cannot be one."""
    try:
        result = Result(
            content, timings=timings or {}, **{name: head[name] for name in ABOUT if name in head}
        )
        numbers = (result.width, result.height, result.windows, result.hole or 0.0)
        # These go into headers as they are.
        sound = result.media_type in MEDIA_TYPES.values() and result.model.isprintable()
        sound = sound and all(isinstance(number, int | float) for number in numbers)
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    if not sound:
        raise ValueError("not an answer of this service")
    return result


def checksum(key: str, head: bytes, content: bytes) -> bytes:
    return b"%08x" % zlib.crc32(content, zlib.crc32(head, zlib.crc32(key.encode())))


def pack(key: str, result: Result) -> bytes:
    head = json.dumps(about(result)).encode()
    return b"\n".join((KIND, checksum(key, head, result.content), head, result.content))


def unpack(key: str, entry: bytes) -> Result:
    """ValueError if it is not what was written for this key."""
    kind, said, head, content = entry.split(b"\n", 3)
    if kind != KIND or said != checksum(key, head, content):
        raise ValueError("of another kind, or damaged")
    return result_from(json.loads(head), content)


async def known(cache: Cache, key: str) -> Result | None:
    entry = await cache.get(key)
    if entry is None:
        return None
    try:
        return unpack(key, entry)
    except ValueError as error:
        log.warning("an entry of the cache is passed over: %s", error)
        return None


class Caching:
    """Round whatever computes: what is known is not computed again, what is computed is known."""

    def __init__(self, submit: Submit, cache: Cache) -> None:
        self._submit, self._cache = submit, cache

    async def submit(self, run: Run) -> Result:
        if not run.looked_up and (answer := await known(self._cache, run.work.key)):
            return answer
        result = await self._submit(run)
        await self._cache.put(run.work.key, pack(run.work.key, result))
        return result
