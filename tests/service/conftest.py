from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

if TYPE_CHECKING:
    from tests.service.server import Server

PERSISTENT = ("--appendonly", "yes", "--appendfsync", "everysec")


@dataclass
class RedisServer:
    """A real redis-server of this test's own, to be frozen and killed at will."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_redis(folder: Path, port: int | None = None, options: Sequence[str] = ()) -> RedisServer:
    port = port or free_port()
    arguments = ["--port", str(port), "--dir", str(folder), "--save", "", "--bind", "127.0.0.1", *options]
    process = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
    give_up = time.monotonic() + 10
    with redis.Redis(port=port) as client:
        while time.monotonic() < give_up:
            try:
                client.ping()
                return RedisServer(port, process)
            except redis.ConnectionError:
                if process.poll() is not None:
                    break
    raise RuntimeError("redis-server did not start")


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = start_redis(tmp_path)
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="session")
def page_server() -> Iterator[Server]:
    """One for all tests of the page: starting takes seconds."""
    from tests.service.server import Server

    running = Server()
    yield running
    running.kill()
