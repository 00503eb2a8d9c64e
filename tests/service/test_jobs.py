"""Jobs over HTTP: the same routes whether they are kept in memory or in Redis."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.testclient import TestClient

from service import callbacks as callbacks_module
from service.callbacks import Callbacks
from service.cli import main
from service.client import JobClient
from service.contracts import Job
from service.errors import Overloaded, Unprocessable
from service.server import Server
from service.settings import Settings
from service.work import InpaintParameters, Result, Run
from tests.service.conftest import free_port
from tests.service.dispatchers import EchoDispatcher, app_of
from tests.service.engines import until

SECRET = "a secret"
PICTURE = b"\x89PNG not really"


class GatedDispatcher(EchoDispatcher):
    """Can be held from the test's thread, and counts windows as an engine does."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.answer: bytes | None = None  # else the upload

    async def submit(self, run: Run) -> Result:
        run.progress.expect(2)
        run.progress.computed()
        self.runs.append(run)
        while not self.gate.is_set() and not run.cancelled.is_set():
            await asyncio.sleep(0.005)
        if self.failure:
            raise self.failure
        run.progress.computed()
        content = self.answer or run.work.files["image"]
        return Result(content, "image/png", "echo", 1, 1, 0.25, 2, {"decode": 0.001})


@contextmanager
def embedded(dispatcher: GatedDispatcher, **settings: Any) -> Iterator[TestClient]:
    with TestClient(app_of(dispatcher, **settings)) as client:
        yield client


@pytest.fixture
def dispatcher() -> GatedDispatcher:
    return GatedDispatcher()


@pytest.fixture
def client(dispatcher: GatedDispatcher) -> Iterator[TestClient]:
    with embedded(dispatcher) as client:
        yield client


def send(client: TestClient, content: bytes = PICTURE, **options: Any) -> Any:
    return client.post("/jobs/inpaint", files={"image": ("a.png", content, "image/png")}, **options)


def finished(client: TestClient, location: str) -> dict[str, Any]:
    until(lambda: client.get(location).json()["state"] in ("done", "failed"))
    body: dict[str, Any] = client.get(location).json()
    return body


def test_a_job_from_its_acceptance_to_its_end(client, dispatcher):
    dispatcher.gate.clear()
    accepted = send(client, data={"grow": "3"})
    assert accepted.status_code == 202
    location = accepted.headers["location"]
    until(lambda: client.get(location).json()["state"] == "running")
    until(lambda: client.get(location).json()["windows_done"] == 1)
    running = client.get(location).json()
    assert (running["windows_total"], running["problem"], running["finished"]) == (2, None, None)
    early = client.get(location + "/result")
    assert early.status_code == 409
    assert early.headers["retry-after"] == "1"
    dispatcher.gate.set()
    done = finished(client, location)
    assert done["state"] == "done"
    assert done["windows_done"] == 2
    assert done["timings"] == {"decode": 0.001}
    assert done["created"] <= done["started"] <= done["finished"]
    result = client.get(done["links"]["result"])
    assert result.content == PICTURE
    assert result.headers["x-model"] == "echo"
    assert dispatcher.runs[-1].work.parameters.grow == 3
    assert client.delete(location).status_code == 204
    assert client.get(location).status_code == 404
    assert client.get(location + "/result").status_code == 404
    assert client.get(location + "/events").status_code == 404


def test_events_tell_every_state_and_then_end(client, dispatcher):
    dispatcher.gate.clear()
    location = send(client).headers["location"]
    opener = threading.Timer(0.3, dispatcher.gate.set)
    opener.start()
    text = client.get(location + "/events").text
    opener.join()
    events = [block.splitlines() for block in text.strip().split("\n\n")]
    names = [lines[0].removeprefix("event: ") for lines in events if lines[0].startswith("event")]
    assert names[-1] == "done"
    assert "running" in names
    last = json.loads(events[-1][1].removeprefix("data: "))
    assert last["windows_done"] == last["windows_total"] == 2


def test_events_of_a_deleted_job_end(client, dispatcher):
    dispatcher.gate.clear()
    location = send(client).headers["location"]
    remover = threading.Timer(0.2, lambda: client.delete(location))
    remover.start()
    assert client.get(location + "/events").text.endswith("event: deleted\ndata: {}\n\n")
    remover.join()


def test_a_failure_is_kept_with_its_reason(client, dispatcher):
    dispatcher.failure = Unprocessable("The hole covers the whole picture.")
    location = send(client).headers["location"]
    failed = finished(client, location)
    assert failed["state"] == "failed"
    assert failed["problem"]["status"] == 422
    assert client.get(location + "/result").status_code == 422


def test_waiting_jobs_know_their_position(client, dispatcher):
    dispatcher.gate.clear()
    locations = [send(client, b"%d" % number).headers["location"] for number in range(7)]
    positions = [client.get(location).json()["position"] for location in locations]
    assert positions[-1] is not None
    assert positions[-1] > positions[-2]
    dispatcher.gate.set()
    for location in locations:
        assert finished(client, location)["state"] == "done"


def test_a_full_engine_delays_a_job_and_does_not_fail_it(client, dispatcher):
    dispatcher.failure = Overloaded("The queue is long.", retry_after=0.05)
    location = send(client).headers["location"]
    until(lambda: len(dispatcher.runs) > 1)
    dispatcher.failure = None
    assert finished(client, location)["state"] == "done"


def test_sending_again_with_the_same_key_is_safe(client, dispatcher):
    key = {"Idempotency-Key": "k1"}
    first, again = send(client, headers=key), send(client, headers=key)
    assert first.status_code == again.status_code == 202
    assert first.headers["location"] == again.headers["location"]
    assert send(client, b"other", headers=key).status_code == 422
    assert send(client, b"a third").headers["location"] != first.headers["location"]
    finished(client, first.headers["location"])
    assert len(dispatcher.runs) == 2
    client.delete(first.headers["location"])
    assert send(client, headers=key).headers["location"] != first.headers["location"]
    assert send(client, headers={"Idempotency-Key": "k" * 256}).status_code == 400


def test_a_job_is_answered_from_the_cache_and_fills_it(client, dispatcher):
    finished(client, send(client).headers["location"])
    known = send(client).headers["location"]
    assert finished(client, known)["state"] == "done"
    assert client.get(known + "/result").content == PICTURE
    files = {"image": ("a.png", PICTURE, "image/png")}
    assert client.post("/inpaint", files=files).headers["x-cache"] == "hit"
    assert client.post("/inpaint", files={"image": ("b.png", b"other", "image/png")}).status_code == 200
    assert finished(client, send(client, b"other").headers["location"])["state"] == "done"
    assert len(dispatcher.runs) == 2


def test_results_end_with_their_time(dispatcher):
    with embedded(dispatcher, job_ttl=1) as client:
        location = send(client).headers["location"]
        finished(client, location)
        until(lambda: client.get(location).status_code == 404)


def test_a_jobs_deadline(dispatcher):
    dispatcher.gate.clear()
    with embedded(dispatcher, job_timeout=0.2) as client:
        failed = finished(client, send(client).headers["location"])
        assert failed["problem"]["status"] == 504
        assert "RETOUCH_JOB_TIMEOUT" in failed["problem"]["detail"]


def test_no_more_is_kept_than_there_is_memory_for(dispatcher):
    with embedded(dispatcher, job_bytes=1) as client:
        assert send(client).status_code == 202
        refused = send(client)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]


def test_what_is_wrong_is_told_at_once(client):
    assert send(client, data={"mask_mode": "green"}).status_code == 422
    assert client.post("/jobs/inpaint", data={"grow": "1"}).status_code in (400, 415)
    assert client.post("/jobs/upscale", files={"image": PICTURE}).status_code == 422
    assert send(client, data={"callback_url": "https://example.com/x"}).status_code == 422  # off
    assert client.get("/jobs/none").status_code == 404
    assert client.delete("/jobs/none").status_code == 404


def test_jobs_need_a_key_where_keys_are_needed(dispatcher):
    with embedded(dispatcher, api_keys=SecretStr("one")) as client:
        assert send(client).status_code == 401
        assert client.get("/jobs/none").status_code == 401
        assert send(client, headers={"X-API-Key": "one"}).status_code == 202


class Receiver:
    """Whoever is called back; answers 500 as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append((dict(self.headers), body))
                self.send_response(500 if len(receiver.calls) <= failures else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/done?x=1"
        self._thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SECRET])
def test_a_callback_is_signed_as_receivers_verify_it_and_tried_again(dispatcher, monkeypatch, secret):
    monkeypatch.setattr(callbacks_module, "PAUSES", (0.01, 0.01))
    settings = {"callback_secret": SecretStr(secret), "callback_networks": "127.0.0.0/8"}
    with Receiver(failures=1) as receiver, embedded(dispatcher, **settings) as client:
        location = send(client, data={"callback_url": receiver.url}).headers["location"]
        until(lambda: len(receiver.calls) == 2)
        headers, body = receiver.calls[-1]
        told = json.loads(body)
        assert (f"/jobs/{told['id']}", told["state"]) == (location, "done")
        assert headers["webhook-id"] == told["id"]
        verifier = Webhook(secret if secret.startswith("whsec_") else secret.encode())
        verifier.verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            verifier.verify(body.replace(b"done", b"gone"), headers)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_callback_never_reaches_into_the_own_network(host):
    guarded = Callbacks(Settings(callback_secret=SecretStr(SECRET)))
    job = Job("id", "inpaint", "echo")
    with Receiver() as receiver:
        assert not asyncio.run(guarded.deliver(receiver.url.replace("127.0.0.1", host), job))
    assert receiver.calls == []


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", True),  # listed below
        ("10.2.0.1", False),
        ("169.254.169.254", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
    ],
)
def test_addresses_that_callbacks_may_reach(address, allowed):
    settings = Settings(callback_secret=SecretStr(SECRET), callback_networks="10.1.0.0/16")
    assert Callbacks(settings).allowed(address) is allowed


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "file:///etc/passwd", "http://u:p@x/", "nothing"])
def test_addresses_that_are_none(url):
    with pytest.raises(Unprocessable):
        Callbacks(Settings(callback_secret=SecretStr(SECRET))).check(url)


@pytest.fixture
def listening(dispatcher: GatedDispatcher) -> Iterator[str]:
    """The application behind a real socket."""
    with served(app_of(dispatcher, api_keys=SecretStr("one"))) as (url, _):
        yield url


@contextmanager
def served(app: FastAPI) -> Iterator[tuple[str, Server]]:
    config = uvicorn.Config(app, port=free_port(), log_config=None, timeout_graceful_shutdown=30)
    services = app.state.services
    server = Server(config, services.shutdown, services.dispatcher.reload)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{config.port}", server
    finally:
        server.should_exit = True
        thread.join()


def test_events_end_with_the_server(dispatcher):
    """An open stream must not hold up a server that stops, and its reader learns why it ended."""
    dispatcher.gate.clear()
    with served(app_of(dispatcher)) as (url, server), httpx.Client() as client:
        files = {"image": ("a.png", PICTURE, "image/png")}
        location = client.post(f"{url}/jobs/inpaint", files=files).headers["location"]
        with client.stream("GET", f"{url}{location}/events") as events:
            lines = events.iter_lines()
            assert next(lines).startswith("event: ")
            started = time.monotonic()
            server.should_exit = True
            assert [line for line in lines if line][-2:] == ["event: stopping", "data: {}"]
        assert time.monotonic() - started < 5


def test_a_client_goes_on_where_a_server_has_stopped(dispatcher):
    """The events ended before the job did: it is asked for again until it is over."""
    dispatcher.gate.clear()
    app = app_of(dispatcher)
    with served(app) as (url, _), ThreadPoolExecutor(1) as pool:

        async def ask() -> bytes:
            client = JobClient(url)
            try:
                return await client.answer("inpaint", InpaintParameters(), {"image": PICTURE})
            finally:
                await client.close()

        waiting = pool.submit(asyncio.run, ask())
        until(lambda: len(dispatcher.runs) == 1)
        app.state.services.shutdown.begin()  # this server's streams end at once from here on
        dispatcher.gate.set()
        assert waiting.result(20) == PICTURE


def test_a_folder_is_sent_to_a_server(listening, dispatcher, tmp_path, capsys, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    for number in range(5):
        (tmp_path / f"photos/{number}.png").write_bytes(b"photo %d" % number)
        (tmp_path / f"masks/{number}.png").write_bytes(b"mask %d" % number)
    (tmp_path / "photos/none.png").write_bytes(b"has no mask")
    command = ["batch", "inpaint", str(tmp_path / "photos"), "--masks", str(tmp_path / "masks")]
    command += ["-o", str(tmp_path / "out"), "--grow", "2", "--server", listening]
    monkeypatch.setenv("RETOUCH_API_KEY", "one")
    assert main(command) == 1
    said = capsys.readouterr()
    assert "5 done, 0 were there already, 1 failed" in said.out
    assert "none.png: no mask" in said.err
    for number in range(5):
        assert (tmp_path / f"out/{number}.png").read_bytes() == b"photo %d" % number
    assert {run.work.files["mask"] for run in dispatcher.runs} == {b"mask %d" % number for number in range(5)}
    assert {run.work.parameters.grow for run in dispatcher.runs} == {2}
    dispatcher.failure = Unprocessable("The hole covers the whole picture.")
    (tmp_path / "out/0.png").unlink()
    (tmp_path / "photos/0.png").write_bytes(b"another photo")  # the first is known by now
    assert main(command) == 1
    said = capsys.readouterr()
    assert "0 done, 4 were there already, 2 failed" in said.out
    assert "0.png: The hole covers" in said.err
    monkeypatch.delenv("RETOUCH_API_KEY")
    assert main(command) == 1
    assert "Send a key" in capsys.readouterr().err
