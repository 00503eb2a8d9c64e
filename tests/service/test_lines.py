"""Exchanges with a real Redis: whole, in order, ended in time, and on another line after a failure."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import RedisError, ResponseError, TimeoutError

from service.dispatch.redis.lines import KEPT, SMALL, Lines, packed, paired
from tests.service.conftest import free_port, start_redis
from tests.service.ends import until
from tests.service.test_waiting import deaf_server

WORDS = st.one_of(
    st.binary(max_size=20), st.text(max_size=5), st.integers(), st.sampled_from([SMALL, SMALL + 1])
)


@given(st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=3))
def test_commands_are_written_as_redis_reads_them(commands):
    reader = hiredis.Reader()
    for part in packed(commands):
        reader.feed(part)
    read = [reader.gets() for _ in commands]
    assert read == [
        [word if isinstance(word, bytes) else str(word).encode() for word in command] for command in commands
    ]
    assert reader.gets() is False


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_large_and_small_words_come_back(redis_server, run):
    async def exchange() -> None:
        lines, picture = Lines(redis_server.url), bytes(range(256)) * 4000
        written = ("HSET", "key", "head", b"{}", "image", picture)
        assert await lines.exchange(written, ("EXISTS", "key")) == [2, 1]
        [fields] = await lines.exchange(("HGETALL", "key"))
        assert paired(fields) == {b"head": b"{}", b"image": picture}
        lines.close()

    run(exchange())


def on(url: str, work: Any, seconds: float = 5) -> None:
    async def run() -> None:
        lines = Lines(url, seconds)
        await asyncio.wait_for(work(lines), 20)
        lines.close()

    asyncio.run(run())


def test_an_error_is_raised_and_costs_no_line(redis_server):
    async def work(lines: Lines) -> None:
        await lines.exchange(("SET", "text", "a"))
        [before] = await lines.exchange(("CLIENT", "ID"))
        for failing in (
            lines.exchange(("SET", "n", 1), ("INCR", "text")),
            lines.transaction(("INCR", "text")),
        ):
            with pytest.raises(ResponseError, match="not an integer"):
                await failing
        with pytest.raises(ResponseError, match="unknown command"):
            await lines.transaction(("SET", "n", 2), ("NONSENSE",))
        assert await lines.exchange(("GET", "n"), ("CLIENT", "ID")) == [b"1", before]

    on(redis_server.url, work)


def test_what_was_given_up_is_not_taken_for_another_reply(redis_server):
    async def work(lines: Lines) -> None:
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.1):
                await lines.exchange(("BLPOP", "list", 5))
        await lines.exchange(("RPUSH", "list", "late"))
        assert await lines.exchange(("ECHO", "mine")) == [b"mine"]

    on(redis_server.url, work)


def test_lines_that_were_cut_while_idle_are_replaced(redis_server):
    async def work(lines: Lines) -> None:
        await asyncio.gather(*(lines.exchange(("PING",)) for _ in range(5)))
        with redis.Redis(port=redis_server.port) as client:
            for other in client.client_list():
                if int(other["id"]) != client.client_id():
                    client.client_kill_filter(_id=other["id"])
        await until(lambda: all(line.closed for line in lines._free))
        assert await lines.exchange(("PING",)) == [b"PONG"]

    on(redis_server.url, work)


def test_a_burst_finds_a_line_for_each_exchange_and_leaves_some_to_the_next(redis_server):
    async def work(lines: Lines) -> None:
        for _ in range(2):
            words = [str(number).encode() for number in range(200)]
            replies = await asyncio.gather(*(lines.exchange(("ECHO", word)) for word in words))
            assert [reply for [reply] in replies] == words
        assert len(lines._free) == KEPT
        with redis.Redis(port=redis_server.port) as client:
            # Redis sees the others go.
            await until(lambda: client.info("clients")["connected_clients"] <= KEPT + 1)

    on(redis_server.url, work)


def test_a_redis_that_says_nothing_is_given_up():
    async def work(lines: Lines) -> None:
        with pytest.raises(RedisError):
            await lines.exchange(("PING",))

    with deaf_server() as url:
        on(url, work, seconds=0.2)


def test_a_redis_that_stops_in_the_middle_is_given_up(redis_server):
    async def work(lines: Lines) -> None:
        await lines.exchange(("PING",))
        with pytest.raises(TimeoutError):
            await lines.exchange(("BLPOP", "nothing", 0))
        assert await lines.exchange(("PING",)) == [b"PONG"]

    on(redis_server.url, work, seconds=0.3)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_encryption_passwords_and_databases_are_the_clients_business(tmp_path, certificate, run):
    key, public = certificate
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", public, "--tls-key-file", key]
    server = start_redis(tmp_path, options=[*options, "--tls-auth-clients", "no"])
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "secret")

    async def exchange() -> None:
        lines = Lines(f"rediss://:secret@127.0.0.1:{port}/3?ssl_ca_certs={public}")
        picture = bytes(range(256)) * 4000
        await lines.exchange(("SET", "key", picture))
        assert await lines.exchange(("GET", "key")) == [picture]
        [about] = await lines.exchange(("CLIENT", "INFO"))
        assert b" db=3 " in about
        lines.close()

    try:
        run(exchange())
    finally:
        server.process.kill()
        server.process.wait()
