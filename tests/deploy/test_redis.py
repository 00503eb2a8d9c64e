"""Redis as its pods start it: durable or evicting, with one user who can do just what the service does."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.deploy.rendering import read
from tests.service.conftest import RedisServer, free_port
from tests.service.fleet import fleet_of
from tests.service.pictures import noise, png, square

PASSWORD = "c0ffee"


@dataclass
class GuardedServer(RedisServer):
    """The server of a pod: with a user and a password."""

    @property
    def url(self) -> str:
        return f"redis://retouch:{PASSWORD}@127.0.0.1:{self.port}/0"


def until_up(server: GuardedServer) -> None:
    end = time.monotonic() + 10
    with redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0)) as client:
        while time.monotonic() < end and server.process.poll() is None:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                continue
    raise RuntimeError("Redis did not come up")


@contextmanager
def redis_of(kind: str, name: str, folder: Path) -> Iterator[GuardedServer]:
    """The pod's own command and configuration, in other folders and on a port that is free here."""
    objects = read("cpu")
    [workload] = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    [config] = [each["data"] for each in objects if "jobs.conf" in each.get("data", {})]
    folder.mkdir()
    for file, text in config.items():
        (folder / file).write_text(text.replace("dir /data", f"dir {folder}"))
    [container] = workload["spec"]["template"]["spec"]["containers"]
    port = free_port()
    script = re.sub("/(etc/redis|tmp)/", f"{folder}/", container["args"][0])
    script = f"{script.rstrip()} --port {port} --bind 127.0.0.1"
    process = subprocess.Popen(
        [*container["command"], script],
        env=os.environ | {"REDIS_PASSWORD": PASSWORD},
        stdout=subprocess.DEVNULL,
    )
    server = GuardedServer(port, process)
    try:
        until_up(server)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("kind", "name", "durable", "policy"),
    [("StatefulSet", "redis", "yes", "noeviction"), ("Deployment", "cache", "no", "allkeys-lru")],
)
def test_only_the_services_user_comes_in_and_only_to_its_own_keys(kind, name, durable, policy, tmp_path):
    with redis_of(kind, name, tmp_path / name) as server, redis.Redis.from_url(server.url) as client:
        assert client.set("retouch:cache:x", b"1", ex=60)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set("other", b"1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.flushall()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.config_get("appendonly")
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.exceptions.AuthenticationError):
            stranger.ping()
        made = (tmp_path / name / "redis.conf").read_text()
        assert f"appendonly {durable}\n" in made
        assert f"maxmemory-policy {policy}\n" in made


def test_the_service_needs_no_more_than_its_user_may(tmp_path):
    with (
        redis_of("StatefulSet", "redis", tmp_path / "jobs") as jobs,
        redis_of("Deployment", "cache", tmp_path / "cache") as cache,
        fleet_of(jobs, tmp_path, cache_url=cache.url, cache_entry_bytes=1_000_000) as fleet,
    ):
        worker, api = fleet.worker("toy-fill"), fleet.api()
        worker.until_ready()
        api.until_ready()
        files = {"image": png(noise(40, 40)), "mask": png(square(40, 40))}
        answers = [httpx.post(api.url + "/inpaint", files=files, timeout=30) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "hit"]
        # What KEDA asks.
        with redis.Redis.from_url(jobs.url) as client:
            [group] = client.xinfo_groups("retouch:jobs:toy-fill:interactive")
            assert (group["lag"], group["pending"]) == (0, 0)
        assert worker.terminate() == 0
        assert api.terminate() == 0
