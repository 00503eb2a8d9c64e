"""`retouch batch --server`: pictures sent as jobs to a service elsewhere, and their answers fetched."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx

from service.errors import Problem
from service.work import Parameters

PATIENCE = 600.0  # seconds that a server which has answered may be away, or too busy, before we give up
PAUSE = 2.0  # seconds until the next attempt, where the server names none
BUSY = (409, 429, 503)  # there is no answer yet, or no room
SILENCE = 60.0  # seconds; the server says something every fifteen
CONNECT = 5.0  # seconds for a connection
FAREWELL = 2.0  # seconds for telling the server that a job is not wanted any more


class Refused(Problem):
    """The server's own words."""

    def __init__(self, response: httpx.Response) -> None:
        told = response.headers.get("content-type", "").startswith("application/problem+json")
        body = response.json() if told else {}
        super().__init__(body.get("detail") or f"The server answered with status {response.status_code}.")
        self.status, self.title = response.status_code, body.get("title", self.title)


def silent(_: str) -> None: ...


class JobClient:
    """`say` hears when the server is away, once each time."""

    def __init__(self, server: str, key: str = "", say: Callable[[str], None] = silent) -> None:
        headers = {"X-API-Key": key} if key else {}
        self._server = server
        self._http = httpx.AsyncClient(
            base_url=server, headers=headers, timeout=httpx.Timeout(SILENCE, connect=CONNECT)
        )
        self._say = say
        self._away = False

    async def greet(self, wait: float) -> None:
        """Find the server there within so many seconds."""
        await self._insist(lambda: self._http.get("/healthz"), wait)

    async def answer(self, task: str, parameters: Parameters, files: Mapping[str, bytes]) -> bytes:
        """The finished picture. The idempotency key makes it safe to send again what may have arrived."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        fields = {name: str(value) for name, value in parameters.model_dump(exclude_none=True).items()}
        created = await self._insist(
            lambda: self._http.post(f"/jobs/{task}", files=dict(files), data=fields, headers=key)
        )
        place = str(created.url.join(created.headers["location"]))
        try:
            return (await self._insist(lambda: self._fetch(place))).content
        finally:  # also where we are stopped: nobody is to compute for nobody
            with suppress(httpx.HTTPError):
                await self._http.delete(place, timeout=FAREWELL)

    async def _fetch(self, place: str) -> httpx.Response:
        """The result, if the job is over: its events end with the last one, or with the server."""
        async with self._http.stream("GET", f"{place}/events") as events:
            if events.is_error:
                await events.aread()
                return events
            async for _ in events.aiter_raw():
                pass
        return await self._http.get(f"{place}/result")

    async def _insist(
        self, send: Callable[[], Awaitable[httpx.Response]], patience: float = PATIENCE
    ) -> httpx.Response:
        """An answer that is neither a lost connection nor a plea to come again."""
        end = time.monotonic() + patience
        while True:
            pause: Any = PAUSE
            try:
                response = await send()
            except httpx.TransportError as error:
                if time.monotonic() >= end:
                    raise
                if not self._away:
                    self._say(f"{self._server} is away ({error or type(error).__name__}); trying again")
                self._away = True
            else:
                self._away = False
                if response.is_success:
                    return response
                if response.status_code not in BUSY or time.monotonic() > end:
                    raise Refused(response)
                pause = response.headers.get("retry-after", PAUSE)
            await asyncio.sleep(float(pause))

    async def close(self) -> None:
        await self._http.aclose()
