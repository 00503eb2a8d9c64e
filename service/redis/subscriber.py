"""One connection on which a process hears of everything that it waits for, however many wait."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.exceptions import ConnectionError

from service.redis import keys
from service.redis.connections import FAILURES, Backoff, connect_blocking, forever
from service.shutdown import end

QUIET = 5.0  # seconds without a word after which Redis is asked whether it is still there


class Subscriber:
    """Wakes those who wait for an id.

    A message may be lost with its connection, so being woken only means that looking is worthwhile, and
    whoever waits looks by himself from time to time.
    """

    def __init__(self, url: str, process: str) -> None:
        self.channel = keys.answers(process)
        self._client = connect_blocking(url, QUIET)
        self._pubsub: Any = None
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._watched: set[str] = set()  # ids whose own channels are listened to
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(forever(self._listen, "answers cannot be heard"))

    async def stop(self) -> None:
        if self._task:
            await end([self._task])
        await self._client.aclose()

    @asynccontextmanager
    async def waiting(self, id: str, watch: bool = False) -> AsyncIterator[asyncio.Event]:
        """Set when there may be news of the id: its answer, and with `watch` whatever is said of it."""
        woken = asyncio.Event()
        self._waiting[id].add(woken)
        try:
            if watch and id not in self._watched:
                self._watched.add(id)
                await self._tell("subscribe", id)
            yield woken
        finally:
            self._waiting[id].discard(woken)
            if not self._waiting[id]:
                del self._waiting[id]
                if id in self._watched:
                    self._watched.discard(id)
                    await self._tell("unsubscribe", id)

    async def _tell(self, command: str, id: str) -> None:
        if self._pubsub is not None:
            with suppress(*FAILURES):  # the next connection subscribes to all that is wanted then
                await getattr(self._pubsub, command)(keys.events(id))

    async def _listen(self, backoff: Backoff) -> None:
        asked = False
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(self.channel, *map(keys.events, self._watched))
            self._pubsub = pubsub
            try:
                # What was said while nobody listened was not heard.
                for id in list(self._waiting):
                    self._wake(id)
                while True:
                    message = await pubsub.get_message(timeout=QUIET)
                    if message is None and asked:
                        raise ConnectionError("Redis says nothing")
                    asked = message is None
                    if message is None:
                        await pubsub.ping()
                        continue
                    backoff.reset()
                    if message["type"] == "message":
                        self._wake(message["data"].decode())
                    elif message["type"] == "subscribe":  # from here on nothing is missed
                        self._wake(message["channel"].decode().removeprefix(keys.events("")))
            finally:
                self._pubsub = None

    def _wake(self, id: str) -> None:
        for woken in self._waiting.get(id, ()):
            woken.set()
