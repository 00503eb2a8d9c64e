"""`retouch batch --server`: pictures sent as jobs to a service elsewhere, and their answers fetched."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from service.errors import Problem
from service.work import Parameters

PATIENCE = 600.0  # seconds that a server may be away, or too busy, before a picture is given up
PAUSE = 2.0  # seconds until the next attempt, where the server names none
BUSY = (409, 429, 503)  # there is no answer yet, or no room
SILENCE = 60.0  # seconds; the server says something every fifteen


class Refused(Problem):
    """The server's own words."""

    def __init__(self, response: httpx.Response) -> None:
        told = response.headers.get("content-type", "").startswith("application/problem+json")
        body = response.json() if told else {}
        super().__init__(body.get("detail") or f"The server answered with status {response.status_code}.")
        self.status, self.title = response.status_code, body.get("title", self.title)


class JobClient:
    """May be used by several threads."""

    def __init__(self, server: str, key: str = "") -> None:
        headers = {"X-API-Key": key} if key else {}
        self._http = httpx.Client(base_url=server, headers=headers, timeout=SILENCE)

    def answer(self, task: str, parameters: Parameters, files: Mapping[str, Path]) -> bytes:
        """The finished picture. The idempotency key makes it safe to send again what may have arrived."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        fields = {name: str(value) for name, value in parameters.model_dump(exclude_none=True).items()}
        content = {name: path.read_bytes() for name, path in files.items()}
        place = self._insist(
            lambda: self._http.post(f"/jobs/{task}", files=content, data=fields, headers=key)
        ).headers["location"]
        answer = self._insist(lambda: self._fetch(place)).content
        self._http.delete(place)
        return answer

    def _fetch(self, place: str) -> httpx.Response:
        """The result, if the job is over: its events end with the last one, or with the server."""
        with self._http.stream("GET", f"{place}/events") as events:
            if events.is_error:
                events.read()
                return events
            for _ in events.iter_raw():
                pass
        return self._http.get(f"{place}/result")

    def _insist(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """An answer that is neither a lost connection nor a plea to come again."""
        end = time.monotonic() + PATIENCE
        while True:
            pause: Any = PAUSE
            try:
                response = send()
            except httpx.TransportError:
                if time.monotonic() > end:
                    raise
            else:
                if response.is_success:
                    return response
                if response.status_code not in BUSY or time.monotonic() > end:
                    raise Refused(response)
                pause = response.headers.get("retry-after", PAUSE)
            time.sleep(float(pause))

    def close(self) -> None:
        self._http.close()
