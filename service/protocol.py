"""What a connection may cost before a request has a caller: uvicorn's protocol over httptools, with bounds.

httptools sets no limit to a request's head, and uvicorn reads on while requests wait in a connection's
pipeline: 115 MB of requests made 6 GB of memory. Here a head is bounded in bytes, number of headers and time,
and who sends many requests ahead, or holds too many connections, is cut off.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
HEAD_COUNT = 100
HEAD_SECONDS = 20.0
PIPELINED = 8  # requests that may wait for the answer to the one before
SLICE = 16_384  # bytes that are parsed before the bounds are looked at again

TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
)
TOO_LARGE_TEXT = f"A request's head may have at most {HEAD_BYTES} bytes.".encode()


class BoundedProtocol(HttpToolsProtocol):
    def __init__(self, *arguments: Any, max_connections: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._max_connections = max_connections
        self._head_bytes: int | None = 0  # of the head that is being read; None between heads
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            transport.abort()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            if self.transport.is_closing():
                return
            part = data if len(data) <= SLICE else data[start : start + SLICE]
            if self._head_bytes is not None:
                self._head_bytes += len(part)
            super().data_received(part)
            if self._head_bytes is not None and self._head_bytes > HEAD_BYTES:
                self.transport.write(TOO_LARGE % (len(TOO_LARGE_TEXT), TOO_LARGE_TEXT))
                self.transport.close()
            elif len(self.pipeline) > PIPELINED:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_bytes is None:
            self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= HEAD_COUNT:
            raise ValueError("too many headers")  # answered with 400, as all that cannot be parsed
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_read()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_read(self) -> None:
        self._head_bytes = None
        if self._late:
            self._late.cancel()
            self._late = None
