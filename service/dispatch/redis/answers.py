"""Waiting for answers: one subscription a process wakes whoever waits. Nothing is polled, nothing missed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import redis.asyncio as aioredis

from service.dispatch.redis.client import Backoff, connect_blocking, forever

QUIET = 5.0  # seconds without a message after which the connection has to show that it lives


class Bell:
    """Rings for a name when its message comes, and for all names after every break of the connection.

    A message may be lost in a break, so a ring says only that there may be something to look at.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._client: aioredis.Redis = connect_blocking(url, QUIET)
        self._channel = channel
        self._bells: dict[str, asyncio.Event] = {}

    @contextmanager
    def listening(self, name: str) -> Iterator[asyncio.Event]:
        bell = self._bells[name] = asyncio.Event()
        try:
            yield bell
        finally:
            del self._bells[name]

    async def run(self) -> None:
        await forever(self._hear, "answers cannot be heard")

    async def _hear(self, backoff: Backoff) -> None:
        async with self._client.pubsub() as subscription:
            await subscription.subscribe(self._channel)
            backoff.reset()
            await self._listen(subscription)

    async def _listen(self, subscription: aioredis.client.PubSub) -> None:
        quiet = False
        while True:
            message = await subscription.get_message(timeout=QUIET)
            if message is None and quiet:
                raise ConnectionError("no sign of life")
            quiet = message is None
            if message is None:
                await subscription.ping()
            elif message["type"] == "subscribe":
                # Only from here on is every message heard; what came before has to be looked for.
                for bell in self._bells.values():
                    bell.set()
            elif message["type"] == "message" and (heard := self._bells.get(message["data"].decode())):
                heard.set()

    async def close(self) -> None:
        await self._client.aclose()
