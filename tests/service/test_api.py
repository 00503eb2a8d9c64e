"""The HTTP face, by itself: what comes in, what goes out, and how it fails."""

from __future__ import annotations

import asyncio
import json
import logging
import re

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.testclient import TestClient

from service import __version__
from service.errors import Overloaded
from service.observability.logs import FIELDS
from tests import openapi
from tests.service.dispatchers import EchoDispatcher, app_of

PICTURE = b"\x89PNG not really"


@pytest.fixture
def dispatcher() -> EchoDispatcher:
    return EchoDispatcher()


@pytest.fixture
def client(dispatcher):
    with TestClient(app_of(dispatcher, max_bytes=100_000)) as client:
        yield client


def files(**extra):
    return {"image": ("a.png", PICTURE, "image/png"), **extra}


def assert_problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def test_inpaint_answers_with_the_picture_and_says_how(client, dispatcher):
    response = client.post("/inpaint", files=files(mask=("m.png", b"mask")), data={"grow": "3"})
    assert response.status_code == 200
    assert response.content == PICTURE
    assert response.headers["x-model"] == "echo"
    assert response.headers["x-hole"] == "0.2500"
    assert response.headers["x-cache"] == "miss"
    assert "decode;dur=1.0" in response.headers["server-timing"]
    (run,) = dispatcher.runs
    work = run.work
    assert (work.task, work.files["mask"], work.parameters.grow) == ("inpaint", b"mask", 3)


def test_the_second_time_comes_from_the_cache_byte_for_byte(client, dispatcher):
    first = client.post("/inpaint", files=files())
    second = client.post("/inpaint", files=files())
    assert second.headers["x-cache"] == "hit"
    assert second.content == first.content
    for header in ("etag", "x-model", "x-hole", "content-type"):
        assert second.headers[header] == first.headers[header]
    assert len(dispatcher.runs) == 1


def test_if_none_match_answers_304_without_a_body(client, dispatcher):
    etag = client.post("/inpaint", files=files()).headers["etag"]
    response = client.post("/inpaint", files=files(), headers={"If-None-Match": f'"other", {etag}'})
    assert response.status_code == 304
    assert response.content == b""
    assert len(dispatcher.runs) == 1


def test_a_tag_that_was_never_given_is_no_answer(client, dispatcher):
    """Anybody can compute the tag of a request; what it stands for may not even be possible."""
    etag = client.post("/inpaint", files=files()).headers["etag"]
    with TestClient(app_of(EchoDispatcher())) as other:  # whose cache is empty
        response = other.post("/inpaint", files=files(), headers={"If-None-Match": etag})
        assert (response.status_code, response.content) == (200, PICTURE)


@pytest.mark.parametrize(
    "body", [{"files": files()}, {"content": PICTURE, "headers": {"content-type": "image/png"}}]
)
def test_upscale_takes_multipart_and_raw_bytes(client, dispatcher, body):
    response = client.post("/upscale?scale=2.7", **body)
    assert response.status_code == 200
    assert dispatcher.images[-1] == PICTURE
    assert dispatcher.runs[-1].work.parameters.scale == 2.7
    assert "x-hole" not in response.headers


@pytest.mark.parametrize(
    "scale", ["nan", "inf", "-1", "0", "0.99", "8.01", "1e9", "1e400", "", "abc", "0x10", "2,7", "9" * 5000]
)
def test_absurd_scales_are_refused_in_words(client, dispatcher, scale):
    body = assert_problem(client.post("/upscale", params={"scale": scale}, files=files()), 422)
    assert body["parameters"][0]["parameter"] == "scale"
    assert not dispatcher.runs


def test_upscale_wants_either_a_scale_or_a_size(client):
    assert_problem(client.post("/upscale", files=files()), 422)
    assert_problem(client.post("/upscale?scale=2&width=100", files=files()), 422)
    assert client.post("/upscale?width=100", files=files()).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"files": {"mask": PICTURE}}, 400),
        ({"files": [("image", PICTURE), ("image", PICTURE)]}, 400),
        ({"files": files(extra=PICTURE)}, 400),
        ({"files": {"image": b""}}, 400),
        ({"files": files(), "params": [("grow", "1"), ("grow", "2")]}, 400),
        ({"files": files(), "data": {"grow": "1"}, "params": {"grow": "2"}}, 400),
        ({"files": files(), "params": {"unknown": "1"}}, 422),
        ({"files": files(), "params": {"grow": "much"}}, 422),
        ({"files": files(), "params": {"mask_mode": "purple"}}, 422),
        ({"files": files(), "params": {"model": "../etc/passwd"}}, 404),
        ({"files": files(), "params": {"model": "x" * 500}}, 422),
        ({"json": {"image": 1}}, 400),
        ({"json": {"image": "%%%"}}, 400),
        ({"json": [1]}, 400),
        ({"json": {"image": "eA==", "grow": [1]}}, 422),
        ({"json": {"image": "eA==", "grow": [[]] * 20_000}}, 400),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400),
        ({"content": PICTURE, "headers": {"content-type": "text/plain"}}, 415),
        ({"content": PICTURE}, 415),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400),
        ({"files": {"image": b"x" * 200_000}}, 413),
    ],
)
def test_malformed_requests_get_a_problem(client, dispatcher, sent, status):
    assert_problem(client.post("/inpaint", **sent), status)
    assert not dispatcher.runs


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"files": files(), "params": {"modle": "echo"}}, "did you mean 'model'?"),
        ({"files": files(), "params": {"xyzzy": "1"}}, "There is no such parameter"),
        ({"files": files(), "data": {"mask": "mask.png"}}, "-F mask=@FILE"),
        ({"data": {"image": "a.png", "x": "1"}, "files": {"mask": b"x"}}, "-F image=@FILE"),
        ({"files": {"imgae": PICTURE}}, "did you mean 'image'? Files are: image, mask, sketch."),
        ({"files": {"image": (None, b"x" * 5000)}}, "A file is sent with a file name"),
    ],
)
def test_what_is_misspelt_is_told_how_it_is_written(client, sent, sentence):
    response = client.post("/inpaint", **sent)
    assert sentence in assert_problem(response, response.status_code)["detail"]


def test_query_and_form_may_say_the_same(client, dispatcher):
    sent = {"files": files(), "data": {"grow": "1"}}
    assert client.post("/inpaint?grow=1", **sent).status_code == 200
    assert dispatcher.runs[-1].work.parameters.grow == 1
    assert "different values" in assert_problem(client.post("/inpaint?grow=2", **sent), 400)["detail"]


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("image/webp", "webp"),
        ("image/jpg;q=0.5, image/webp;q=0.4", "jpeg"),
        ("image/webp;q=0.9, */*;q=0.9", "webp"),
        ("image/avif,image/webp,*/*;q=0.8", "avif"),
        ("*/*, image/webp;q=0.2", "png"),
        ("image/webp;q=0", "png"),
        ("application/json", "png"),
        (";;,q=,image/;q=x", "png"),
        ("*/*", "png"),
    ],
)
def test_accept_chooses_where_no_format_is_given(client, dispatcher, accept, format):
    headers = {"Accept": accept}
    assert client.post("/inpaint", files=files(), headers=headers).status_code == 200
    assert dispatcher.runs[-1].work.parameters.format == format
    client.post("/inpaint", files=files(), data={"format": "jpg", "grow": "1"}, headers=headers)
    assert dispatcher.runs[-1].work.parameters.format == "jpeg"


@pytest.mark.parametrize("path", ["/", "/models", "/healthz", "/readyz", "/metrics", "/web/retouch.css"])
def test_what_can_be_fetched_has_a_head(client, path):
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_a_head_of_nothing_is_a_problem_without_a_body(client):
    for path, status in (("/nowhere", 404), ("/inpaint", 405)):
        assert (client.head(path).status_code, client.head(path).content) == (status, b"")


def test_a_page_of_another_origin_may_read_what_answers_say(dispatcher):
    with TestClient(app_of(dispatcher, cors_origins="https://a.org, https://b.org")) as client:
        response = client.post("/inpaint", files=files(), headers={"Origin": "https://b.org"})
        assert response.headers["access-control-allow-origin"] == "https://b.org"
        exposed = response.headers["access-control-expose-headers"].lower().split(", ")
        own = {"etag", "server-timing"} | {name for name in response.headers if name.startswith("x-")}
        assert own - {"x-content-type-options"} <= set(exposed)


def test_an_upload_without_a_length_is_cut_off_too(client):
    def chunks():
        for _ in range(50):
            yield b"x" * 10_000

    headers = {"content-type": "image/png"}
    assert_problem(client.post("/upscale?scale=2", content=chunks(), headers=headers), 413)


def test_unknown_routes_and_methods_are_problems_too(client):
    assert_problem(client.get("/nowhere"), 404)
    assert_problem(client.get("/inpaint"), 405)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/jobs/x", "DELETE, GET, HEAD"),
        ("/inpaint", "POST"),
        ("/models", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
    ],
)
def test_what_a_path_does_not_take_is_told_with_what_it_does(client, path, methods):
    assert client.patch(path).headers["allow"] == methods


def test_a_refusal_says_when_to_come_back(client, dispatcher):
    dispatcher.failure = Overloaded("There is work for 40 seconds.", retry_after=9.2, limit=30)
    response = client.post("/inpaint", files=files())
    assert assert_problem(response, 503)["limit"] == 30
    assert response.headers["retry-after"] == "10"


def test_a_failure_of_ours_shows_no_trace(dispatcher):
    dispatcher.failure = RuntimeError("secret path")
    with TestClient(
        app_of(
            dispatcher,
        )
    ) as client:
        response = client.post("/inpaint", files=files())
    assert_problem(response, 500)
    assert "secret" not in response.text


def test_request_ids_are_taken_when_sane_and_made_otherwise(client):
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/healthz", headers={"X-Request-ID": "a b\t"}).headers["x-request-id"] != "a b\t"


def test_health_readiness_and_metrics(client, dispatcher):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").status_code == 200
    dispatcher.is_ready = False
    assert assert_problem(client.get("/readyz"), 503)["detail"] == "the engine stopped"
    assert client.get("/healthz").status_code == 200
    client.post("/inpaint", files=files())
    client.post("/inpaint", files=files())
    text = client.get("/metrics").text
    assert f'retouch_build_info{{version="{__version__}"}} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert 'retouch_cache_total{result="hit"} 1.0' in text
    assert 'retouch_request_seconds_count{route="/inpaint",status="200"} 2.0' in text


def test_a_line_of_the_log_says_who_called_and_probes_are_quiet(dispatcher, caplog):
    caplog.set_level(logging.DEBUG, "retouch.request")
    with TestClient(app_of(dispatcher), client=("10.1.2.3", 5)) as client:
        for path in ("/models", "/readyz", "/v2/health/live"):
            client.get(path)
        dispatcher.is_ready = False
        client.get("/readyz")
    said = [(record.levelname, getattr(record, FIELDS)) for record in caplog.records]
    assert [(level, fields["route"]) for level, fields in said] == [
        ("INFO", "/models"),
        ("DEBUG", "/readyz"),
        ("DEBUG", "/v2/health/live"),
        ("INFO", "/readyz"),
    ]
    assert {fields["client"] for _, fields in said} == {"10.1.2.3"}


def test_the_page_and_its_parts_are_served(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for part in ("web/retouch.css", "web/retouch.js"):
        assert part in page.text
        assert client.get("/" + part).status_code == 200
    assert_problem(client.get("/web/../cli.py"), 404)


def test_models_are_listed(client):
    rows = client.get("/models").json()["models"]
    assert rows[0]["name"] == "echo"
    assert [row["name"] for row in rows if row["default"] and row["task"] == "inpaint"] == ["echo"]


def test_loading_needs_the_admin_key(dispatcher):
    with TestClient(
        app_of(
            dispatcher,
        )
    ) as client:
        assert_problem(client.post("/models/echo/load"), 404)
    with TestClient(app_of(dispatcher, admin_key="boss")) as client:
        assert_problem(client.post("/models/echo/load"), 401)
        headers = {"X-API-Key": "boss"}
        assert client.post("/models/echo/load", headers=headers).status_code == 204
        assert client.post("/models/echo/unload", headers=headers).status_code == 204


def test_api_keys(dispatcher):
    with TestClient(app_of(dispatcher, api_keys="one, two")) as client:
        refused = client.post("/inpaint", files=files())
        assert_problem(refused, 401)
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert_problem(client.post("/inpaint", files=files(), headers={"X-API-Key": "three"}), 401)
        for headers in ({"X-API-Key": "two"}, {"Authorization": "Bearer one"}):
            assert client.post("/inpaint", files=files(), headers=headers).status_code == 200
        assert client.get("/healthz").status_code == 200


def async_client(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def test_equal_requests_in_flight_compute_once(dispatcher):
    async def scenario():
        async with async_client(
            app_of(
                dispatcher,
            )
        ) as client:
            dispatcher.open.clear()
            tasks = [asyncio.create_task(client.post("/inpaint", files=files())) for _ in range(5)]
            while not dispatcher.runs:
                await asyncio.sleep(0)
            for _ in range(200):  # let the other four reach the flight
                await asyncio.sleep(0)
            dispatcher.open.set()
            return await asyncio.gather(*tasks)

    responses = asyncio.run(scenario())
    assert len(dispatcher.runs) == 1
    assert {response.content for response in responses} == {PICTURE}
    assert sorted(response.headers["x-cache"] for response in responses) == ["miss"] + ["shared"] * 4


def test_a_key_has_a_limit_of_requests_in_flight(dispatcher):
    async def scenario():
        app = app_of(dispatcher, api_keys="one", key_concurrency=1)
        async with async_client(app) as client:
            headers = {"X-API-Key": "one"}
            dispatcher.open.clear()
            first = asyncio.create_task(client.post("/inpaint", files=files(), headers=headers))
            while not dispatcher.runs:
                await asyncio.sleep(0)
            second = await client.post("/inpaint", files=files(), headers=headers)
            dispatcher.open.set()
            return await first, second

    first, second = asyncio.run(scenario())
    assert first.status_code == 200
    assert_problem(second, 429)
    assert second.headers["retry-after"] == "1"


def test_the_documentation_names_every_parameter(client):
    document = client.get("/openapi.json").json()
    body = document["paths"]["/inpaint"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"image", "mask", "sketch", "mask_mode", "grow", "feather", "format", "quality"} <= set(
        body["properties"]
    )
    assert json.dumps(document)


def promised(schema: dict) -> st.SearchStrategy[str]:
    """All that a parameter may be by its description, as a form sends it."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "pattern" in schema:
        return st.from_regex(re.compile(schema["pattern"], re.ASCII), fullmatch=True)
    if schema.get("format") == "uri":
        return st.sampled_from(["https://b.example", "http://b.example:81/c?d=e#f", "https://[2001:db8::1]/"])
    low, high = schema.get("minimum"), schema.get("maximum")
    return {
        "integer": st.integers(int(low or 0), int(high or 2**40)).map(str),
        "number": st.floats(low, high).map(repr),
        "boolean": st.sampled_from(["true", "false", "True", "False", "1", "0"]),
        "string": st.just("echo"),  # names are those of GET /models
    }[schema["type"]]


@pytest.mark.parametrize("path", ["/inpaint", "/upscale", "/jobs/inpaint", "/jobs/upscale"])
def test_what_the_description_promises_is_taken(dispatcher, path):
    with TestClient(app_of(dispatcher, callback_secret=SecretStr("s"))) as client:
        body = client.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]
        properties = body["content"]["multipart/form-data"]["schema"]["properties"]
        given_by = {name: schema for name, schema in properties.items() if schema.get("format") != "binary"}

        @settings(max_examples=60, deadline=None)
        @given(data=st.data(), chosen=st.sets(st.sampled_from(sorted(given_by))))
        def taken(data, chosen):
            if "upscale" in path:  # in words: one or the other
                chosen = chosen - {"width", "height"} if "scale" in chosen else chosen | {"width"}
            fields = {name: data.draw(promised(given_by[name]), label=name) for name in sorted(chosen)}
            response = client.post(path, files=files(), data=fields)
            assert response.status_code == (202 if "jobs" in path else 200), response.text

        taken()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=300),
    content_type=st.sampled_from(
        ["multipart/form-data; boundary=b", "multipart/form-data; boundary=", "image/png", "text/plain", ""]
    ),
    route=st.sampled_from(["/inpaint", "/upscale", "/upscale?scale=2", "/models/%00/load"]),
    framed=st.booleans(),
)
def test_no_bytes_make_it_fail(client, body, content_type, route, framed):
    if framed:
        body = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + body + b"\r\n--b--\r\n"
    response = client.post(route, content=body, headers={"content-type": content_type})
    if response.status_code != 200:
        assert_problem(response, response.status_code)
    assert response.status_code < 500


def test_the_description_that_is_checked_in_is_the_routes_own():
    assert openapi.FILE.read_text(encoding="utf-8") == openapi.described(), "run `make openapi`"
