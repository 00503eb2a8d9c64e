"""Jobs over HTTP where they are kept in Redis and computed by workers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from starlette.testclient import TestClient

from service import callbacks as callbacks_module
from service.app import create_app
from service.cache import make_cache
from service.cache.answers import Caching
from service.cache.store import RedisCache
from service.errors import Unprocessable
from service.observability.metrics import Metrics
from service.redis import keys
from service.redis.consumer import Consumer
from service.redis.fleet import Announcement
from service.redis.streams import WorkerStreams
from service.settings import Settings
from tests.service.engines import until
from tests.service.test_jobs import PICTURE, SECRET, GatedDispatcher, Receiver, finished, send

LEASE = 0.3
MODEL = {"name": "echo", "task": "inpaint", "digest": "digest"}


@contextmanager
def api(url: str, **settings: Any) -> Iterator[TestClient]:
    given = {"dispatch": "redis", "redis_url": url, **settings}
    with TestClient(create_app(Settings(**given))) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


@contextmanager
def worker(url: str, dispatcher: GatedDispatcher, places: int = 1) -> Iterator[None]:
    """A worker on a loop of its own, as it would be in a process of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    cache = make_cache(Settings(redis_url=url))

    async def start() -> Consumer:
        consumer = Consumer(
            WorkerStreams(url, f"worker-{id(dispatcher)}", ["echo"], LEASE),
            Caching(dispatcher.submit, cache).submit,
            lambda: True,
            Metrics(),
            places,
            LEASE,
            lambda _: Announcement([MODEL], {"inpaint": "echo"}, 0.01),
            lambda: None,
        )
        await consumer.start()
        return consumer

    try:
        consumer = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        try:
            yield
        finally:
            dispatcher.gate.set()
            asyncio.run_coroutine_threadsafe(consumer.stop(5), loop).result(30)
            asyncio.run_coroutine_threadsafe(cache.close(), loop).result(30)
    finally:
        # Whatever failed: a thread that is left running keeps the whole test run from ending.
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def dispatcher() -> GatedDispatcher:
    return GatedDispatcher()


@pytest.fixture
def client(redis_server, dispatcher) -> Iterator[TestClient]:
    with worker(redis_server.url, dispatcher), api(redis_server.url) as client:
        yield client


def left(url: str) -> set[str]:
    """What jobs have left; answers that are cached are meant to stay."""
    others = (keys.FLEET, keys.WEIGHTS, "retouch:jobs:", RedisCache.PREFIX)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return {key for key in client.keys("*") if not key.startswith(others)}


def test_a_job_from_its_acceptance_to_its_end(client, dispatcher, redis_server):
    dispatcher.gate.clear()
    accepted = send(client, data={"grow": "3"})
    assert accepted.status_code == 202
    location = accepted.headers["location"]
    until(lambda: client.get(location).json()["windows_done"] == 1)
    running = client.get(location).json()
    assert (running["state"], running["windows_total"]) == ("running", 2)
    assert client.get(location + "/result").status_code == 409
    dispatcher.gate.set()
    done = finished(client, location)
    assert done["state"] == "done"
    assert done["windows_done"] == 2
    assert done["timings"] == {"decode": 0.001}
    assert done["created"] <= done["started"] <= done["finished"]
    result = client.get(location + "/result")
    assert result.status_code == 200
    assert result.headers["x-model"] == "echo"
    assert dispatcher.runs[-1].work.parameters.grow == 3
    with redis.Redis.from_url(redis_server.url) as look:
        assert all(look.ttl(key) > 0 for key in left(redis_server.url))
    assert client.delete(location).status_code == 204
    assert client.get(location).status_code == 404
    assert client.delete(location).status_code == 404
    assert left(redis_server.url) == set()


def test_any_api_process_knows_every_job(client, dispatcher, redis_server):
    dispatcher.gate.clear()
    location = send(client).headers["location"]
    with api(redis_server.url) as other:
        assert other.get(location).json()["state"] in ("queued", "running")
        dispatcher.gate.set()
        assert finished(other, location)["state"] == "done"
        assert other.get(location + "/result").status_code == 200


def test_events_tell_every_state_and_then_end(client, dispatcher):
    dispatcher.gate.clear()
    location = send(client).headers["location"]
    opener = threading.Timer(0.4, dispatcher.gate.set)
    opener.start()
    text = client.get(location + "/events").text
    opener.join()
    events = [block.splitlines() for block in text.strip().split("\n\n")]
    names = [lines[0].removeprefix("event: ") for lines in events]
    assert names[-1] == "done"
    assert "running" in names
    assert json.loads(events[-1][1].removeprefix("data: "))["windows_done"] == 2


def test_a_failure_is_kept_with_its_reason(client, dispatcher):
    dispatcher.failure = Unprocessable("The hole covers the whole picture.")
    location = send(client).headers["location"]
    assert finished(client, location)["problem"]["status"] == 422
    assert client.get(location + "/result").status_code == 422


def test_an_answer_that_redis_lost_is_gone_and_nobodys_fault(client, redis_server):
    location = send(client).headers["location"]
    assert finished(client, location)["state"] == "done"
    with redis.Redis.from_url(redis_server.url) as redis_client:
        redis_client.delete(keys.outcome(location.rpartition("/")[2]))
    answer = client.get(location + "/result")
    assert answer.status_code == 404
    assert "RETOUCH" not in answer.json()["detail"]


def test_waiting_jobs_know_their_position_and_can_be_cancelled(client, dispatcher, redis_server):
    dispatcher.gate.clear()
    locations = [send(client, b"%d" % number).headers["location"] for number in range(4)]
    until(lambda: client.get(locations[0]).json()["state"] == "running")
    assert [client.get(location).json()["position"] for location in locations] == [None, 0, 1, 2]
    assert client.delete(locations[1]).status_code == 204
    assert client.delete(locations[0]).status_code == 204
    until(lambda: dispatcher.runs[0].cancelled.is_set())
    dispatcher.gate.set()
    for location in locations[2:]:
        assert finished(client, location)["state"] == "done"
        client.delete(location)
    assert dispatcher.images == [b"0", b"2", b"3"]
    until(lambda: left(redis_server.url) == set())


def test_sending_again_with_the_same_key_is_safe(client, dispatcher):
    key = {"Idempotency-Key": "k1"}
    first, again = send(client, headers=key), send(client, headers=key)
    assert first.headers["location"] == again.headers["location"]
    finished(client, first.headers["location"])
    assert send(client, headers=key).headers["location"] == first.headers["location"]
    assert send(client, b"other", headers=key).status_code == 422
    assert len(dispatcher.runs) == 1
    client.delete(first.headers["location"])
    assert send(client, headers=key).headers["location"] != first.headers["location"]


def test_a_job_is_answered_from_the_cache_and_fills_it(client, dispatcher):
    finished(client, send(client).headers["location"])
    known = send(client).headers["location"]
    assert finished(client, known)["state"] == "done"
    assert client.get(known + "/result").content == PICTURE
    files = {"image": ("a.png", PICTURE, "image/png")}
    assert client.post("/inpaint", files=files).headers["x-cache"] == "hit"
    assert len(dispatcher.runs) == 1


def test_models_are_loaded_by_starting_workers(redis_server, dispatcher):
    with worker(redis_server.url, dispatcher), api(redis_server.url, admin_key=SecretStr("a")) as client:
        admin = {"X-API-Key": "a"}
        for change in ("load", "unload"):
            refused = client.post(f"/models/echo/{change}", headers=admin)
            assert refused.status_code == 501
            assert refused.headers["content-type"] == "application/problem+json"
            assert "retouch worker --models echo" in refused.json()["detail"]
            assert client.post(f"/models/other/{change}", headers=admin).status_code == 404


def test_a_jobs_deadline(redis_server, dispatcher):
    dispatcher.gate.clear()
    with worker(redis_server.url, dispatcher), api(redis_server.url, job_timeout=0.5) as client:
        failed = finished(client, send(client).headers["location"])
        assert failed["problem"]["status"] == 504


def test_a_callback_is_delivered_once_by_one_of_the_processes(redis_server, dispatcher, monkeypatch):
    monkeypatch.setattr(callbacks_module, "PAUSES", (0.01, 0.01))
    settings = {"callback_secret": SecretStr(SECRET), "callback_networks": "127.0.0.0/8"}
    url = redis_server.url
    with Receiver(failures=1) as receiver, worker(url, dispatcher):
        with api(url, **settings) as client, api(url, **settings):
            location = send(client, data={"callback_url": receiver.url}).headers["location"]
            until(lambda: len(receiver.calls) == 2)
            told = json.loads(receiver.calls[-1][1])
            assert (f"/jobs/{told['id']}", told["state"]) == (location, "done")
            with redis.Redis.from_url(url) as look:
                until(lambda: look.xlen(keys.CALLBACKS) == 0)
        assert len(receiver.calls) == 2
