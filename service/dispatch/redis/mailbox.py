"""A worker's view of the streams: entries taken, kept, answered, handed on. No policy and no state here."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redis.exceptions import ResponseError

from service.dispatch.redis import keys, scripts
from service.dispatch.redis.client import SLACK, connect
from service.dispatch.redis.fleet import SILENCE, Announcement
from service.dispatch.redis.keys import GROUP, PRIORITIES
from service.dispatch.redis.lines import Lines, paired
from service.dispatch.redis.wire import Outcome, outcome_fields, report
from service.errors import Problem

BLOCK = 1000  # milliseconds; also how long a stopping worker may still wait for its last read
OUTCOME_LIFE = 60_000  # milliseconds; the waiting process fetches it at once, or is gone
DEAD_LIFE = 7 * 24 * 3600 * 1000  # milliseconds after the last death
LIGHT = 4 << 20  # bytes; so much of an upload may come with its entry, while the worker reads nothing else
FORGET = 10  # leases of silence after which a consumer without entries is deleted

Upload = tuple[dict[bytes, bytes], float]  # what was sent, and the seconds that are left for it


@dataclass(frozen=True)
class Entry:
    stream: str
    id: str
    job: str
    channel: str  # where to say that something has changed; empty if only the answer matters
    upload: Upload | None = field(default=None, compare=False, repr=False)  # if it came along


class Mailbox:
    def __init__(self, url: str, name: str, models: Sequence[str], lease: float) -> None:
        self.name = name
        self._streams = [[keys.stream(model, priority) for model in models] for priority in PRIORITIES]
        self._all = [stream for several in self._streams for stream in several]
        self._lease = int(1000 * lease)
        self._client = connect(url)
        self._newest = dict.fromkeys(self._all, "0")  # of the entries that this worker was given
        self._lines = Lines(url)
        self._waiting = Lines(url, BLOCK / 1000 + SLACK)

    async def open(self) -> None:
        """Make the groups, from entry 0: jobs may have been sent before there was a worker."""
        for stream in self._all:
            try:
                await self._client.xgroup_create(stream, GROUP, "0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    async def take(self, most: int, lowest_first: bool) -> list[Entry]:
        """Up to so many new entries, of whatever waits; none if nothing does."""
        order = [
            stream
            for several in (self._streams[::-1] if lowest_first else self._streams)
            for stream in random.sample(several, len(several))  # no model goes first always
        ]
        take = scripts.call(scripts.TAKE, order, [GROUP, self.name, most])
        [found] = await self._lines.exchange(take)
        return [
            self._given(stream, name, fields)
            for stream, name, fields in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]

    async def wait(self) -> list[Entry]:
        """The next entry, with its upload if that is light, or nothing after a while; one a stream if several
        come in the same moment, and then the first has its upload.
        """
        group = ("XREADGROUP", "GROUP", GROUP, self.name, "COUNT", 1, "BLOCK", BLOCK)
        desk, uploads = keys.desk(self.name), keys.upload("")
        facts = [GROUP, self.name, uploads, LIGHT, *self._newest.values()]
        read, *_, (job, upload, life, _) = await self._waiting.exchange(
            (*group, "STREAMS", *self._all, *(">" for _ in self._all)),
            ("MULTI",),
            scripts.call(scripts.FETCH, [desk, *self._all], facts),
            ("HGETALL", desk),
            ("PTTL", desk),
            scripts.call(scripts.PUT_BACK, [desk], [uploads]),
            ("EXEC",),
        )
        entries = [
            self._given(stream, name, fields) for stream, entries in read or () for name, fields in entries
        ]
        loaded = (paired(upload), life / 1000) if upload else None
        return [replace(entry, upload=loaded) if entry.job.encode() == job else entry for entry in entries]

    def _given(self, stream: bytes, name: bytes, fields: Sequence[bytes]) -> Entry:
        entry = entry_from(stream.decode(), name, paired(fields))
        self._newest[entry.stream] = entry.id
        return entry

    async def orphaned(self) -> bool:
        """Whether there are entries whose lease has run out."""
        async with self._client.pipeline(transaction=False) as pipe:
            for stream in self._all:
                pipe.xpending_range(stream, GROUP, "-", "+", 1, idle=self._lease)
            return any(await pipe.execute())

    async def adopt(self) -> tuple[Entry, int] | None:
        """One entry whose lease has run out, and how often it has been delivered now."""
        for stream in self._all:
            cursor: Any = b"0-0"
            while True:
                cursor, entries, *_ = await self._client.xautoclaim(
                    stream, GROUP, self.name, self._lease, start_id=cursor, count=1
                )
                for name, fields in entries:
                    pending = await self._client.xpending_range(stream, GROUP, name, name, 1)
                    if pending:  # else its late first owner has finished it
                        return entry_from(stream, name, fields), int(pending[0]["times_delivered"])
                if cursor == b"0-0":
                    break
        return None

    async def load(self, entry: Entry) -> Upload:
        """The upload, and the seconds that are left; nothing if nobody waits for it any more."""
        if entry.upload:
            return entry.upload
        upload = keys.upload(entry.job)
        fields, life = await self._lines.exchange(("HGETALL", upload), ("PTTL", upload))
        return paired(fields), life / 1000

    async def renew(self, entries: Sequence[Entry]) -> list[Entry]:
        """Keep these for another lease; returns those that nobody waits for any more."""
        async with self._client.pipeline(transaction=False) as pipe:
            for entry in entries:
                pipe.xclaim(entry.stream, GROUP, self.name, 0, [entry.id], justid=True)
                pipe.exists(keys.upload(entry.job))
            replies = await pipe.execute()
        return [entry for entry, wanted in zip(entries, replies[1::2], strict=True) if not wanted]

    async def settle(self, entry: Entry, outcome: Outcome, death: str = "") -> str:
        """Answer, or bury with the reason of its death. Returns what came of it, for the metrics."""
        job, draft = entry.job, keys.draft(entry.job, self.name)
        state = "failed" if isinstance(outcome, Problem) else "done"
        touched = [entry.stream, keys.upload(job), keys.outcome(job), keys.DEAD]
        touched += [keys.record(job), keys.CALLBACKS, draft]
        about = json.dumps(report(outcome))
        facts: list[Any] = [GROUP, entry.id, job, entry.channel, death, DEAD_LIFE, state, about]
        fields = [part for pair in outcome_fields(outcome).items() for part in pair]
        *_, event = await self._lines.transaction(
            ("XADD", draft, "*", *fields),
            ("PEXPIRE", draft, OUTCOME_LIFE),
            scripts.call(scripts.FINISH, touched, facts),
        )
        return "dead" if death else str(event.decode())

    async def report(self, entry: Entry, done: int, total: int) -> None:
        about = [entry.job, entry.channel, done, total]
        await scripts.run(self._client, scripts.PROGRESS, [keys.record(entry.job)], about)

    async def release(self, entry: Entry) -> None:
        """Make it look long abandoned, so that the next worker takes it over at once."""
        await self._client.xclaim(
            entry.stream, GROUP, self.name, 0, [entry.id], idle=10 * self._lease, justid=True
        )

    async def announce(self, announcement: Announcement) -> None:
        about = [self.name, announcement.pack(), SILENCE]
        await scripts.run(self._client, scripts.ANNOUNCE, [keys.FLEET], about)

    async def sweep(self) -> None:
        """Remove the traces of workers that died long ago."""
        await scripts.run(self._client, scripts.RETIRE, self._all, [GROUP, "", FORGET * self._lease])

    async def leave(self) -> None:
        await self._client.hdel(keys.FLEET, self.name)
        await scripts.run(self._client, scripts.RETIRE, self._all, [GROUP, self.name, 2**53])

    async def close(self) -> None:
        self._lines.close()
        self._waiting.close()
        await self._client.aclose()


def entry_from(stream: str, name: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    return Entry(stream, name.decode(), fields[b"job"].decode(), fields[b"channel"].decode())
