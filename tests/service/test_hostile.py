"""2,000 hostile requests: an answer to each, none of them a failure of ours, and no memory kept."""

from __future__ import annotations

import gc

import httpx
import pytest

from tests.service.hostile import Hostile, hostile_requests
from tests.service.test_serve import Server


def send(client: httpx.Client, request: Hostile) -> httpx.Response:
    body = {"files": request.files} if request.files else {"content": request.content or b""}
    return client.post(request.path, params=request.params, headers=request.headers, **body)


@pytest.mark.timeout(600)
def test_hostile_requests_are_answered_and_leave_nothing_behind():
    server = Server(max_pixels="4000000", cache_bytes="0")
    statuses: dict[int, int] = {}
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for request in hostile_requests(200, seed=1):  # the first ones load codecs and networks
                send(client, request)
            start = server.memory()
            for request in hostile_requests(1800, seed=2):
                response = send(client, request)
                statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
                assert response.status_code < 500, (request, response.text)
                if response.status_code >= 400:
                    assert response.headers["content-type"] == "application/problem+json", request
                    assert response.json()["detail"]
            gc.collect()
            grown = server.memory() - start
        assert statuses.get(200, 0) > 10  # or it would be no test of the paths behind the checks
        assert grown < 100e6, f"resident memory grew by {grown / 1e6:.0f} MB"
        assert server.process.poll() is None
    finally:
        server.kill()
