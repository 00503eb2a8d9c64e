"""Connections for what lies on a request's way: a few commands at once, their replies as Redis sends them.

The client opens them: addresses, TLS and passwords stay with it, and so do all commands beside that way. What
it does around a command is little while the processor has it in its caches. When a request comes after a
pause it does not, and each command took 0.3 ms longer than here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import hiredis
import redis.asyncio as aioredis
from redis.exceptions import ConnectionError, InvalidResponse, RedisError, ResponseError, TimeoutError

from service.dispatch.redis.client import TIMEOUT

Command = Sequence[bytes | str | int | float]
KEPT = 100  # idle lines; after a burst a process must not hold for ever what Redis has for all of them
SMALL = 16384  # bytes; copying up to so many costs less than one part more to send


class Line(asyncio.Protocol):
    """One connection, for one exchange at a time, and for none after one that failed."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer  # kept, since it closes the transport when it is collected
        self._transport = writer.transport
        self._parser = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._replies: list[Any] = []
        self._wanted = 0
        self._done: asyncio.Future[list[Any]] | None = None

    @classmethod
    async def open(cls, pool: aioredis.ConnectionPool) -> Line:
        connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.connect()
        line = cls(connection._writer)
        connection._reader = connection._writer = None  # the client's part ends here
        line._transport.set_protocol(line)
        return line

    @property
    def closed(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    async def exchange(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """The replies to the commands. An error among them is raised, after all have come."""
        loop = asyncio.get_running_loop()
        self._replies, self._wanted, self._done = [], len(commands), loop.create_future()
        late = loop.call_later(seconds, self._fail, TimeoutError(f"no reply in {seconds:g} s"))
        try:
            self._transport.writelines(packed(commands))
            replies = await self._done
        except BaseException:
            self.close()  # a reply that is still under way must not be taken for another's
            raise
        finally:
            late.cancel()
            self._done = None
        for reply in replies:
            raise_error(reply)
        return replies

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not False:
                self._replies.append(reply)
        except RedisError as error:
            self._fail(error)
        if len(self._replies) == self._wanted and self._done and not self._done.done():
            self._done.set_result(self._replies)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionError(f"connection lost: {error}" if error else "connection lost"))

    def _fail(self, error: Exception) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(error)


class Lines:
    """As many lines as there are exchanges at once."""

    def __init__(self, url: str, seconds: float = TIMEOUT) -> None:
        self._pool = aioredis.ConnectionPool.from_url(
            url, socket_timeout=min(seconds, TIMEOUT), socket_connect_timeout=TIMEOUT, protocol=2
        )
        self._seconds = seconds
        self._free: list[Line] = []

    async def exchange(self, *commands: Command) -> list[Any]:
        line = self._idle() or await Line.open(self._pool)
        try:
            return await line.exchange(commands, self._seconds)
        except ConnectionError:
            self.close()  # the idle ones will be no better
            raise
        finally:
            if len(self._free) >= KEPT:
                line.close()
            elif not line.closed:
                self._free.append(line)

    async def transaction(self, *commands: Command) -> list[Any]:
        """All of the commands or none, and nobody else's between them."""
        *_, replies = await self.exchange(("MULTI",), *commands, ("EXEC",))
        return list(replies)

    def _idle(self) -> Line | None:
        while self._free:
            line = self._free.pop()
            if not line.closed:
                return line
        return None

    def close(self) -> None:
        while self._free:
            self._free.pop().close()


def packed(commands: Sequence[Command]) -> Iterator[bytes]:
    """Large words as they are and not copied, all between them in one piece."""
    between = bytearray()
    for command in commands:
        between += b"*%d\r\n" % len(command)
        for word in command:
            data = word if isinstance(word, bytes) else str(word).encode()
            between += b"$%d\r\n" % len(data)
            if len(data) > SMALL:
                yield bytes(between)
                yield data
                between = bytearray(b"\r\n")
            else:
                between += data + b"\r\n"
    yield bytes(between)


def paired(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Fields and values, which come in turns."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def raise_error(reply: Any) -> None:
    """Also that of a command in a transaction."""
    for part in reply if isinstance(reply, list) else (reply,):
        if isinstance(part, Exception):
            raise part
