"""Receivers of callbacks that nobody means well: endless, compressed, dripping, or inside our own network."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from service import callbacks as callbacks_module
from service.callbacks import Callbacks
from service.contracts import Job
from service.errors import Unprocessable
from service.observability import logs
from service.redis import keys
from service.redis.callbacks import CallbackQueue
from service.redis.connections import connect
from service.settings import Settings
from tests.service.ends import until

SETTINGS = {"callback_secret": SecretStr("secret"), "callback_networks": "127.0.0.0/8"}
HEAD = b"HTTP/1.1 200 OK\r\n"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def job(owner: str = "a", id: str = "id") -> Job:
    return Job(id, "inpaint", "echo", owner)


@asynccontextmanager
async def receiver(answer: Answer) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/told?token=hush"
    finally:
        server.close()


async def well(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
    await writer.drain()


async def dripping(writer: asyncio.StreamWriter) -> None:
    """A header that never ends: something comes often enough for every timeout between two bytes."""
    writer.write(HEAD)
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_what_a_receiver_answers_is_not_read(encoding):
    sent = 0
    piece = gzip.compress(bytes(10_000_000)) if encoding == "gzip" else bytes(1_000_000)

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD + f"Content-Encoding: {encoding}\r\nContent-Length: 100000000\r\n\r\n".encode())
        while sent < 100_000_000:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async def run() -> None:
        async with receiver(endless) as url:
            assert await Callbacks(Settings(**SETTINGS)).deliver(url, job())

    asyncio.run(run())
    assert sent < 20_000_000  # what the buffers of two sockets take


def test_an_attempt_has_one_deadline_for_all_of_it(monkeypatch):
    monkeypatch.setattr(callbacks_module, "TIMEOUT", 0.3)
    monkeypatch.setattr(callbacks_module, "PAUSES", ())

    async def run() -> None:
        async with asyncio.timeout(5), receiver(dripping) as url:
            assert not await Callbacks(Settings(**SETTINGS)).deliver(url, job())

    asyncio.run(run())


def test_forty_dripping_receivers_of_a_key_keep_nobody_else_waiting(monkeypatch):
    monkeypatch.setattr(callbacks_module, "TIMEOUT", 4.0)

    async def run() -> None:
        callbacks = Callbacks(Settings(**SETTINGS))
        async with receiver(dripping) as slow, receiver(well) as quick:
            for number in range(40):
                callbacks.start(slow, job("a", f"{number}"))
            await asyncio.sleep(0)
            started = time.monotonic()
            assert await callbacks.deliver(quick, job("b"))
            assert time.monotonic() - started < 2
            await callbacks.stop()

    asyncio.run(run())


def test_those_who_wait_for_their_next_attempt_hold_no_place(redis_server):
    """Twenty that failed and will be tried again in a second, over Redis."""

    async def run() -> None:
        heard: list[str] = []

        async def hear(writer: asyncio.StreamWriter) -> None:
            heard.append("well")
            await well(writer)

        async def fail(writer: asyncio.StreamWriter) -> None:
            heard.append("failed")
            writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

        async with receiver(fail) as failing, receiver(hear) as hearing:

            async def finished(id: str) -> tuple[Job, str]:
                return job(id, id), hearing if id == "last" else failing

            settings = Settings(redis_url=redis_server.url, **SETTINGS)
            callbacks = CallbackQueue(settings, Callbacks(settings), finished)
            client = connect(redis_server.url)
            await callbacks.start()
            for id in (*map(str, range(20)), "last"):
                await client.xadd(keys.CALLBACKS, {"job": id})
            await until(lambda: "well" in heard)
            assert heard.count("failed") <= 2 * 20
            await callbacks.stop()
            await client.aclose()

    asyncio.run(run())


def test_an_entry_that_is_none_is_dropped_and_the_next_delivered(redis_server):
    async def run() -> None:
        told: list[str] = []

        async def finished(id: str) -> tuple[Job, str]:
            told.append(id)
            return job("a", id), "http://127.0.0.1:1/"

        settings = Settings(redis_url=redis_server.url, callback_secret=SecretStr("secret"))
        callbacks = CallbackQueue(settings, Callbacks(settings), finished)
        client = connect(redis_server.url)
        await client.xadd(keys.CALLBACKS, {"odd": "1"})
        await client.xadd(keys.CALLBACKS, {"job": b"\xff"})
        await client.xadd(keys.CALLBACKS, {"job": "good"})
        await callbacks.start()
        await until(lambda: told == ["good"])

        async def empty() -> bool:
            return bool(await client.xlen(keys.CALLBACKS) == 0)

        await until(empty)
        await callbacks.stop()
        await client.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001::1",
        "::7f00:1",
        "::127.0.0.1",
        "fec0::1",
        "fe80::1%lo",
        "5f00::1",
        "3fff::1",
        "100::1",
    ],
)
def test_addresses_that_lead_to_others_are_not_public(address):
    assert not Callbacks(Settings(**SETTINGS)).allowed(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://example.com:0/",
        f"http://{'a' * 64}.example/",
        "http://example%00.com/",
        "http://exa mple.com/",
        "http://example.com/\r\nHost: other",
        "http://example..com/",
        "http://exämple\ud800.com/",
    ],
)
def test_addresses_that_cannot_be_called_are_refused_at_once(url):
    with pytest.raises(Unprocessable):
        Callbacks(Settings(**SETTINGS)).check(url)


@pytest.mark.parametrize(
    "url", ["https://exämple.com/x?y=1#z", "http://[2606:4700::1]:8080/", "http://a_b.c/%00"]
)
def test_addresses_that_can_be_called(url):
    assert Callbacks(Settings(**SETTINGS)).check(url) == url


def test_no_query_string_of_a_callback_is_logged(capsys):
    async def run() -> None:
        async with receiver(well) as url:
            assert await Callbacks(Settings(**SETTINGS)).deliver(url, job())

    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        logs.configure("debug", "text")
        logging.getLogger("retouch.test").info("configured")
        asyncio.run(run())
        said = capsys.readouterr().err
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    assert "configured" in said
    assert "hush" not in said
