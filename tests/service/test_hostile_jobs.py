"""What one caller can do to the jobs of others, and to the room in which all are kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
import redis
from pydantic import SecretStr
from starlette.testclient import TestClient

from service.redis.jobs import LOOKS
from tests.service.conftest import RedisServer
from tests.service.dispatchers import app_of
from tests.service.engines import until
from tests.service.test_jobs import GatedDispatcher, embedded, finished, send, served
from tests.service.test_redis_jobs import api, left, worker

A, B = {"X-API-Key": "a"}, {"X-API-Key": "b"}
KEYS = {"api_keys": SecretStr("a,b")}

Serve = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture
def dispatcher() -> GatedDispatcher:
    return GatedDispatcher()


@pytest.fixture(params=["memory", "redis"])
def serve(request: pytest.FixtureRequest, dispatcher: GatedDispatcher) -> Serve:
    """The service, its jobs kept in the one place or the other."""
    if request.param == "memory":
        return lambda **settings: embedded(dispatcher, **settings)
    server: RedisServer = request.getfixturevalue("redis_server")

    @contextmanager
    def over_redis(**settings: Any) -> Iterator[TestClient]:
        with worker(server.url, dispatcher), api(server.url, **settings) as client:
            yield client

    return over_redis


def test_a_job_is_its_owners_alone(serve, dispatcher):
    with serve(**KEYS) as client:
        location = send(client, headers=A).headers["location"]
        until(lambda: client.get(location, headers=A).json()["state"] == "done")
        for path in (location, location + "/result", location + "/events"):
            assert client.get(path, headers=B).status_code == 404, path
        assert client.delete(location, headers=B).status_code == 404
        assert client.get(location + "/result", headers=A).status_code == 200
        assert "owner" not in client.get(location, headers=A).json()
        assert client.delete(location, headers=A).status_code == 204


def test_one_key_cannot_take_the_room_of_all(serve, dispatcher):
    with serve(**KEYS, job_bytes=100_000, key_job_bytes=60_000) as client:
        location = send(client, b"a" * 40_000, headers=A).headers["location"]
        refused = send(client, b"b" * 40_000, headers=A)
        assert (refused.status_code, "RETOUCH_KEY_JOB_BYTES" in refused.json()["detail"]) == (429, True)
        assert send(client, b"c" * 40_000, headers=B).status_code == 202
        refused = send(client, b"d" * 10_000, headers=A)
        assert (refused.status_code, "RETOUCH_JOB_BYTES" in refused.json()["detail"]) == (503, True)
        until(lambda: client.get(location, headers=A).json()["state"] == "done")
        assert client.delete(location, headers=A).status_code == 204
        assert send(client, b"d" * 10_000, headers=A).status_code == 202


def test_an_answer_that_finds_no_room_fails_its_job_and_no_other(serve, dispatcher):
    """Small uploads may have large answers."""
    with serve(job_bytes=20_000) as client:
        dispatcher.answer = os.urandom(30_000)
        failed = finished(client, send(client, b"large").headers["location"])
        assert failed["problem"]["status"] == 503
        assert "RETOUCH_JOB_BYTES" in failed["problem"]["detail"]
        dispatcher.answer = b"small"
        assert finished(client, send(client, b"small").headers["location"])["state"] == "done"


def test_an_idempotency_key_means_a_new_job_after_the_jobs_life(serve, dispatcher):
    with serve(job_ttl=1) as client:
        key = {"Idempotency-Key": "k"}
        location = send(client, headers=key).headers["location"]
        until(lambda: client.get(location).status_code == 404)
        again = send(client, headers=key)
        assert again.status_code == 202
        assert again.headers["location"] != location


def test_a_redis_full_of_uploads_still_answers_all_that_it_took(redis_server, dispatcher):
    """23 uploads of 8 MB by one key, into 200 MB: without a limit no answer could be stored any more."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("maxmemory", str(100_000_000))
    dispatcher.gate.clear()
    with worker(redis_server.url, dispatcher), api(redis_server.url) as client:
        answers = [send(client, os.urandom(8_000_000)) for _ in range(12)]
        taken = [answer.headers["location"] for answer in answers if answer.status_code == 202]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert 3 <= len(taken) <= 6
        assert len(taken) + len(refused) == 12
        assert all(answer.headers["retry-after"] for answer in refused)
        assert full(redis_server, lambda: [client.get(at).status_code for at in taken]) == [200] * len(taken)
        files = {"image": ("a.png", os.urandom(8_000_000), "image/png")}
        dispatcher.gate.set()
        assert client.post("/inpaint", files=files).status_code == 200  # who waits finds room
        for location in taken:
            assert finished(client, location)["state"] == "done"
            assert client.delete(location).status_code == 204


def full(server: RedisServer, ask: Callable[[], Any]) -> Any:
    """What is answered while Redis takes nothing more at all."""
    with redis.Redis.from_url(server.url) as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1mb")
        try:
            return ask()
        finally:
            client.config_set("maxmemory", before)


def test_what_jobs_hold_is_forgotten_with_them(redis_server, dispatcher):
    with worker(redis_server.url, dispatcher), api(redis_server.url, job_ttl=1, job_bytes=50_000) as client:
        for _ in range(3):  # each alone takes more than half of the room
            location = send(client, os.urandom(30_000)).headers["location"]
            assert finished(client, location)["state"] == "done"
            until(lambda at=location: client.get(at).status_code == 404)
        until(lambda: left(redis_server.url) == set())


def test_one_keys_jobs_do_not_hold_up_anothers(serve, dispatcher):
    with serve(**KEYS) as client:
        dispatcher.gate.clear()
        many = [send(client, b"a%d" % number, headers=A).headers["location"] for number in range(12)]
        until(lambda: len(dispatcher.runs) >= 1)
        few = [send(client, b"b%d" % number, headers=B).headers["location"] for number in range(2)]
        position = client.get(few[0], headers=B).json()["position"]
        dispatcher.gate.set()
        for location, key in [*((each, A) for each in many), *((each, B) for each in few)]:
            until(lambda at=location, key=key: client.get(at, headers=key).json()["state"] == "done")
        order = dispatcher.images
        under_way = 4  # the most that had their turn before B came
        assert max(order.index(b"b0"), order.index(b"b1")) <= under_way + 3
        assert order.index(b"b0") <= under_way + position + 1
        assert [image for image in order if image.startswith(b"a")] == [
            b"a%d" % number for number in range(12)
        ]


@contextmanager
def followers(count: int, dispatcher: GatedDispatcher) -> Iterator[ThreadPoolExecutor]:
    """Threads that read events, and that end whatever happens: the jobs are held only inside."""
    with ThreadPoolExecutor(count) as pool:
        dispatcher.gate.clear()
        try:
            yield pool
        finally:
            dispatcher.gate.set()


def test_listeners_count_under_their_keys_limit_and_are_bounded(serve, dispatcher):
    with serve(**KEYS, key_concurrency=3, listeners=4) as client, followers(4, dispatcher) as pool:
        a, b = (send(client, name, headers=key).headers["location"] for name, key in ((b"a", A), (b"b", B)))

        def status(path: str, key: dict[str, str]) -> int:
            return client.get(path, headers=key).status_code

        followed = [pool.submit(status, a + "/events", A) for _ in range(3)]
        until(lambda: client.app.state.services.access._listeners == 3)
        assert status(a, A) == 429
        assert status(a + "/events", A) == 429
        followed.append(pool.submit(status, b + "/events", B))
        until(lambda: client.app.state.services.access._listeners == 4)
        assert status(b + "/events", B) == 503
        assert status(b, B) == 200
        dispatcher.gate.set()
        assert [each.result(20) for each in followed] == [200] * 4
        until(lambda: status(a, A) == 200)
        assert status(a + "/events", A) == 200  # the places are free again


def test_listeners_take_few_connections_of_redis(redis_server, dispatcher):
    with (
        worker(redis_server.url, dispatcher),
        api(redis_server.url) as client,
        followers(60, dispatcher) as pool,
        redis.Redis.from_url(redis_server.url) as look,
    ):
        location = send(client).headers["location"]
        before = look.info("clients")["connected_clients"]
        followed = [pool.submit(client.get, location + "/events") for _ in range(60)]
        until(lambda: client.app.state.services.access._listeners == 60)
        assert look.info("clients")["connected_clients"] <= before + LOOKS
        dispatcher.gate.set()
        assert all("event: done" in each.result(20).text for each in followed)
        assert look.info("clients")["connected_clients"] <= before + LOOKS


def test_a_reader_who_leaves_gives_its_place_back_at_once(dispatcher):
    app = app_of(dispatcher, listeners=1)
    with served(app) as (url, _), httpx.Client(base_url=url) as client:
        dispatcher.gate.clear()
        files = {"image": ("a.png", b"picture", "image/png")}
        location = client.post("/jobs/inpaint", files=files).headers["location"]
        for _ in range(3):
            with client.stream("GET", location + "/events") as events:
                assert next(events.iter_lines()).startswith("event: ")
            until(lambda: app.state.services.access._listeners == 0, 2)
        dispatcher.gate.set()
