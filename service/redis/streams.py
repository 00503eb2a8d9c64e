"""A worker's view of the streams: entries taken, kept, answered, handed on. No policy and no state here."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redis.exceptions import OutOfMemoryError, ResponseError

from service.contracts import JOB_OVERHEAD, Outcome, no_room_for_answer
from service.errors import Problem
from service.redis import keys, scripts
from service.redis.connections import connect, connect_blocking
from service.redis.fleet import SILENCE, Announcement
from service.redis.keys import GROUP, PRIORITIES
from service.redis.wire import outcome_fields, report

BLOCK = 1000  # milliseconds; also how long a stopping worker may still wait for its last read
OUTCOME_LIFE = 60_000  # milliseconds; the waiting process fetches it at once, or is gone
DEAD_LIFE = 7 * 24 * 3600 * 1000  # milliseconds after the last death
CLAIM = 2  # leases for which a worker's weights count after it has said so
FORGET = 10  # leases of silence after which a consumer without entries is deleted


@dataclass(frozen=True)
class Entry:
    stream: str
    id: str
    work: str  # its id; none if the entry is not one of ours
    channel: str  # where to say that something has changed
    # What `load` returns, where it has come along.
    loaded: tuple[dict[bytes, bytes], float] | None = field(default=None, compare=False, repr=False)

    @property
    def priority(self) -> str:
        return self.stream.rpartition(":")[2]


class WorkerStreams:
    def __init__(self, url: str, worker: str, models: Sequence[str], lease: float) -> None:
        self.worker = worker
        self.host(models)
        self._disputed: set[str] = set()  # models that others have with other weights
        self._lease = int(1000 * lease)
        self._client: Any = connect(url)
        self._reader: Any = connect_blocking(url, BLOCK / 1000)

    def host(self, models: Sequence[str]) -> None:
        """Entries are taken of these models from now on."""
        self._models = models
        self._all = [keys.stream(model, priority) for priority in PRIORITIES for model in models]

    async def open(self) -> None:
        """Make the groups, from entry 0: works may have been sent before there was a worker."""
        for stream in self._all:
            try:
                await self._client.xgroup_create(stream, GROUP, "0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    async def take(self, most: int, lowest_first: bool) -> list[Entry]:
        """Up to so many new entries, of whatever waits; none if nothing does."""
        models = [model for model in self._models if model not in self._disputed]
        order = [
            keys.stream(model, priority)
            for priority in (PRIORITIES[::-1] if lowest_first else PRIORITIES)
            for model in random.sample(models, len(models))  # no model goes first always
        ]
        found = await scripts.run(self._client, scripts.TAKE, order, [GROUP, self.worker, most])
        return [
            entry_from(stream.decode(), id, dict(zip(flat[::2], flat[1::2], strict=True)))
            for stream, id, flat in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]

    async def wait(self) -> list[Entry]:
        """The next entry, or nothing after a while; one a stream if several come in the same moment."""
        if not self._served:
            await asyncio.sleep(BLOCK / 1000)
            return []
        read = await self._reader.xreadgroup(
            GROUP, self.worker, dict.fromkeys(self._served, ">"), count=1, block=BLOCK
        )
        return [
            await self._entry(stream.decode(), id, fields)
            for stream, entries in read or ()
            for id, fields in entries
        ]

    async def _entry(self, stream: str, id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
        """With the work whose turn it is, or that the entry was given before. Mostly it is the one that came
        with the entry, so that one's upload is asked for too: a command more would take a millisecond.
        """
        own = entry_from(stream, id, fields)
        if b"turn" not in fields:
            return own
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.eval(*scripts.arguments(scripts.TURN, [stream], [id]))
            pipe.hgetall(keys.upload(own.work))
            pipe.pttl(keys.upload(own.work))
            given, upload, life = await pipe.execute(raise_on_error=False)
        if isinstance(given, Exception):
            raise given
        if isinstance(upload, dict) and given == f"{own.work} {own.channel}".encode():
            return replace(own, loaded=(upload, life / 1000))
        work, _, channel = given.partition(b" ")
        return entry_from(stream, id, {b"job": work, b"channel": channel} if work else {})

    async def orphaned(self) -> bool:
        """Whether there are entries whose lease has run out."""
        async with self._client.pipeline(transaction=False) as pipe:
            for stream in self._served:
                pipe.xpending_range(stream, GROUP, "-", "+", 1, idle=self._lease)
            return any(await pipe.execute())

    async def adopt(self) -> tuple[Entry, int] | None:
        """One entry whose lease has run out, and how often it has been delivered now."""
        for stream in self._served:
            cursor: Any = b"0-0"
            while True:
                cursor, entries, *_ = await self._client.xautoclaim(
                    stream, GROUP, self.worker, self._lease, start_id=cursor, count=1
                )
                for id, fields in entries:
                    pending = await self._client.xpending_range(stream, GROUP, id, id, 1)
                    if pending:  # else its late first owner has finished it
                        return await self._entry(stream, id, fields), int(pending[0]["times_delivered"])
                if cursor == b"0-0":
                    break
        return None

    async def load(self, entry: Entry) -> tuple[dict[bytes, bytes], float]:
        """The upload, and the seconds that are left; nothing if nobody waits for it any more."""
        if entry.loaded:
            return entry.loaded
        async with self._client.pipeline(transaction=False) as pipe:  # which a full Redis would refuse
            pipe.hgetall(keys.upload(entry.work))
            pipe.pttl(keys.upload(entry.work))
            try:
                upload, life = await pipe.execute()
            except ResponseError as error:
                if "WRONGTYPE" not in str(error):
                    raise
                await self._client.unlink(keys.upload(entry.work))  # nobody's upload
                return {}, 0.0
        return upload, life / 1000

    async def renew(self, entries: Sequence[Entry]) -> list[Entry]:
        """Keep these for another lease; returns those that nobody waits for any more."""
        async with self._client.pipeline(transaction=False) as pipe:
            for entry in entries:
                pipe.xclaim(entry.stream, GROUP, self.worker, 0, [entry.id], justid=True)
                pipe.exists(keys.upload(entry.work))
            replies = await pipe.execute()
        return [entry for entry, wanted in zip(entries, replies[1::2], strict=True) if not wanted]

    async def settle(self, entry: Entry, outcome: Outcome, death: str = "") -> str:
        """Answer, or bury with the reason of its death. Returns what came of it, for the metrics."""
        id, draft = entry.work, keys.draft(entry.work, self.worker)
        state = "failed" if isinstance(outcome, Problem) else "done"
        touched = [entry.stream, keys.upload(id), keys.outcome(id), keys.DEAD]
        touched += [keys.record(id), keys.CALLBACKS, draft]
        values = [GROUP, entry.id, id, entry.channel, death, DEAD_LIFE, state, json.dumps(report(outcome))]
        fields, instead = outcome_fields(outcome), no_room_for_answer()
        values += [len(fields.get("content", b"")), JOB_OVERHEAD, scripts.JOB_ANSWERS_SHARE]
        values += [outcome_fields(instead)["head"], json.dumps(report(instead)), OUTCOME_LIFE]
        try:
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hset(draft, mapping=fields)
                pipe.pexpire(draft, OUTCOME_LIFE)
                pipe.eval(*scripts.arguments(scripts.FINISH, touched, values))
                *_, event = await pipe.execute()
        except OutOfMemoryError:
            # Nothing of the transaction has happened. Without its draft the answer is that there is no room.
            event = await scripts.run(self._client, scripts.FINISH, touched, values)
        return "dead" if death else str(event.decode())

    async def discard(self, entry: Entry) -> None:
        """What is not a work: nobody waits for it, and no worker could do anything with it."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xack(entry.stream, GROUP, entry.id)
            pipe.xdel(entry.stream, entry.id)
            await pipe.execute()

    async def report(self, entry: Entry, done: int, total: int) -> None:
        values = [entry.work, entry.channel, done, total]
        await scripts.run(self._client, scripts.PROGRESS, [keys.record(entry.work)], values)

    async def release(self, entry: Entry) -> None:
        """Make it look long abandoned, so that the next worker takes it over at once."""
        await self._client.xclaim(
            entry.stream, GROUP, self.worker, 0, [entry.id], idle=10 * self._lease, justid=True
        )

    @property
    def _served(self) -> list[str]:
        names = [model for model in self._models if model not in self._disputed]
        return [keys.stream(model, priority) for priority in PRIORITIES for model in names]

    async def claim(self, digests: Mapping[str, str]) -> set[str]:
        """The models of which others have other weights: their works are not for this worker."""
        pairs = [part for pair in digests.items() for part in pair]
        found = await scripts.run(self._client, scripts.CLAIM, [keys.WEIGHTS], [CLAIM * self._lease, *pairs])
        self._disputed = {model.decode() for model in found}
        return self._disputed

    async def announce(self, announcement: Announcement) -> None:
        values = [self.worker, announcement.pack(), SILENCE]
        await scripts.run(self._client, scripts.ANNOUNCE, [keys.FLEET], values)

    async def sweep(self) -> None:
        """Remove the traces of workers that died long ago."""
        await scripts.run(self._client, scripts.RETIRE, self._all, [GROUP, "", FORGET * self._lease])

    async def leave(self) -> None:
        await self._client.hdel(keys.FLEET, self.worker)
        await scripts.run(self._client, scripts.RETIRE, self._all, [GROUP, self.worker, 2**53])

    async def close(self) -> None:
        await self._reader.aclose()
        await self._client.aclose()


def entry_from(stream: str, id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """With no work, if it does not name one: anybody who reaches Redis may have written it."""
    try:
        return Entry(stream, id.decode(), fields[b"job"].decode(), fields[b"channel"].decode())
    except (KeyError, ValueError):
        return Entry(stream, id.decode(), "", "")
