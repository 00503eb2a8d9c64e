"""A fleet of real processes under kills: every accepted request is answered once and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import redis

from service.redis import keys
from tests.service.clients import MASK, PATIENCE, SIDE, Clients, check, fill, picture, settle
from tests.service.conftest import PERSISTENT, RedisServer, start_redis
from tests.service.engines import until
from tests.service.fleet import DEADLY, Process, fleet_of
from tests.service.pictures import png

JOBS = 500
FIRST_LEAVING = 1000  # number of the first job that goes to an API process which is about to leave


@pytest.fixture
def redis_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "redis"
    folder.mkdir()
    return folder


@pytest.fixture
def server(redis_folder: Path) -> Iterator[RedisServer]:
    running = start_redis(redis_folder, options=PERSISTENT)
    yield running
    running.process.kill()
    running.process.wait()


def holding(server: RedisServer, model: str) -> bool:
    """Whether entries are in the hands of workers right now."""
    with redis.Redis(port=server.port) as client:
        return client.xpending(keys.stream(model, "interactive"), keys.GROUP)["pending"] > 0


def test_chaos(server, redis_folder, tmp_path):
    with fleet_of(server, tmp_path) as fleet:
        workers = [fleet.worker("toy-fill", worker_places=4) for _ in range(3)]
        apis = [fleet.api(), fleet.api()]
        for member in (*workers, *apis):
            member.until_ready()
        clients = Clients(apis, range(JOBS))
        clients.until(JOBS // 8)
        for victim in workers[:2]:
            until(lambda: holding(server, "toy-fill"), PATIENCE)
            victim.kill()
            clients.until(sum(clients.answered.values()) + JOBS // 8)
        replacement = fleet.worker("toy-fill", worker_places=4)
        server.process.kill()
        server.process.wait()
        time.sleep(0.2)  # how long the outage lasts
        again = start_redis(redis_folder, server.port, PERSISTENT)
        server.process = again.process
        clients.finish()
        assert clients.failures == []
        assert len(clients.answered) == JOBS
        assert set(clients.answered.values()) == {1}
        replacement.until_ready()
        settle(fleet)


def test_a_poisoned_job_cannot_kill_the_fleet(server, tmp_path):
    with fleet_of(server, tmp_path) as fleet:
        workers = [fleet.worker("toy-killer", worker_places=4) for _ in range(2)]
        api = fleet.api()
        for member in (*workers, api):
            member.until_ready()
        clients = Clients([api], range(60), "toy-killer")
        clients.until(10)
        with ThreadPoolExecutor(1) as pool, httpx.Client() as client:
            poison = pool.submit(kill, client, api)
            for dead in range(3):
                # Whatever dies is replaced, as a cluster would.
                until(lambda died=dead: died < sum(not member.alive for member in fleet.members), PATIENCE)
                fleet.worker("toy-killer", worker_places=4)
                assert not poison.done(), dead
            response = poison.result(60)
        assert response.status_code == 500
        assert "not tried again" in response.json()["detail"]
        clients.finish()
        assert clients.failures == []
        assert len(clients.answered) == 60
        settle(fleet, {keys.DEAD})
        with redis.Redis(port=server.port) as client:
            assert client.xlen(keys.DEAD) == 1


def kill(client: httpx.Client, api: Process) -> httpx.Response:
    deadly = np.full((SIDE, SIDE, 3), DEADLY, np.uint8)
    files = {"image": png(deadly), "mask": MASK}
    return client.post(f"{api.url}/inpaint", params={"model": "toy-killer"}, files=files, timeout=90)


def test_sigterm_loses_nothing(server, tmp_path):
    """To a worker and to an API process, both in the middle of their work."""
    with fleet_of(server, tmp_path) as fleet:
        workers = [fleet.worker("toy-sleeper", worker_places=4) for _ in range(2)]
        leaving, staying = fleet.api(), fleet.api()
        for member in (*workers, leaving, staying):
            member.until_ready()
        clients = Clients([staying], range(80), "toy-sleeper")
        with ThreadPoolExecutor(8) as pool, httpx.Client() as client:
            waiting = [
                pool.submit(fill, client, leaving, number, "toy-sleeper")
                for number in range(FIRST_LEAVING, FIRST_LEAVING + 8)
            ]
            until(lambda: accepted(server, waiting), PATIENCE)
            started = time.monotonic()
            assert workers[0].terminate() == 0
            assert leaving.terminate() == 0
            assert time.monotonic() - started < 20
            for number, future in enumerate(waiting):
                check(future.result(), FIRST_LEAVING + number)
        clients.finish()
        assert clients.failures == []
        assert len(clients.answered) == 80
        settle(fleet)


def test_a_worker_takes_another_default_on_sighup(server, tmp_path):
    with fleet_of(server, tmp_path) as fleet:
        api, worker = fleet.api(), fleet.worker()
        worker.until_ready()
        api.until_ready()
        row = '[[model]]\nname = "new"\narchitecture = "toy-fill"\nlicence = "none"\ndefault_on = ["cpu"]\n'
        with (tmp_path / "weights" / "manifest.toml").open("a") as manifest:
            manifest.write(row)
        assert worker.process.pid
        os.kill(worker.process.pid, signal.SIGHUP)

        def defaults() -> list[str]:
            rows = httpx.get(api.url + "/models").json()["models"]
            return [row["name"] for row in rows if row["default"] and row["task"] == "inpaint"]

        until(lambda: defaults() == ["new"], PATIENCE)
        files = {"image": png(picture(1)), "mask": MASK}
        response = httpx.post(api.url + "/inpaint", files=files, timeout=PATIENCE)
        assert (response.status_code, response.headers["x-model"]) == (200, "new")
        assert httpx.post(api.url + "/models/reload").status_code == 404


def test_sigterm_ends_the_events_of_a_job_and_not_the_job(server, tmp_path):
    with fleet_of(server, tmp_path) as fleet, httpx.Client() as client:
        worker = fleet.worker("toy-fill")
        leaving, staying = fleet.api(), fleet.api()
        for member in (worker, leaving, staying):
            member.until_ready()
        worker.kill()
        files = {"image": png(picture(1)), "mask": MASK}
        location = client.post(f"{leaving.url}/jobs/inpaint", files=files).headers["location"]
        with client.stream("GET", f"{leaving.url}{location}/events") as events:
            lines = events.iter_lines()
            assert next(lines) == "event: queued"
            started = time.monotonic()
            leaving.process.terminate()
            assert "event: stopping" in list(lines)
        leaving.process.join(30)
        assert leaving.process.exitcode == 0
        assert time.monotonic() - started < 10
        fleet.worker("toy-fill")
        until(lambda: client.get(f"{staying.url}{location}").json()["state"] == "done", PATIENCE)
        check(client.get(f"{staying.url}{location}/result"), 1)
        assert client.delete(f"{staying.url}{location}").status_code == 204
        settle(fleet)


def accepted(server: RedisServer, waiting: list[Future[httpx.Response]]) -> bool:
    """Whether every one of these is answered or in Redis."""
    with redis.Redis(port=server.port, decode_responses=True) as client:
        ids = {
            json.loads(head)["request_id"]
            for key in client.scan_iter("retouch:upload:*", count=1000)
            if (head := client.hget(key, "head"))
        }
    return all(
        future.done() or f"job-{number}" in ids for number, future in enumerate(waiting, FIRST_LEAVING)
    )
