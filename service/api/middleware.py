"""Round every request: its id, its time, its line in the log, and an end to uploads that never finish."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_response
from service.observability.logs import FIELDS, request_id
from service.observability.metrics import Metrics

log = logging.getLogger("retouch.request")
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        current = given if SANE_ID.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(current)
        started = time.perf_counter()
        status = 499  # until an answer starts: the client left before there was one
        fields: dict[str, object] = {}

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = current
                headers["X-Content-Type-Options"] = "nosniff"
                for name in ("x-cache", "x-model", "content-length"):
                    if name in headers:
                        fields[name.removeprefix("x-").replace("-", "_")] = headers[name]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            # The route's template, not the path: a caller must not be able to invent label values.
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.request_seconds.labels(route, str(status)).observe(seconds)
            fields = {"method": scope["method"], "route": route, "status": status, **fields}
            log.info("request", extra={FIELDS: {**fields, "seconds": round(seconds, 4)}})
            request_id.reset(token)


class BodyDeadline:
    """An upload must be complete within `seconds`: a sender that drips bytes must not hold a place."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self.seconds
        complete = False

        async def receive_in_time() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            async with asyncio.timeout_at(deadline):
                message = await receive()
            complete = not message.get("more_body", False)
            return message

        try:
            await self.app(scope, receive_in_time, send)
        except TimeoutError:
            if complete:
                raise
            detail = f"The upload was not complete after {self.seconds:g} seconds."
            response = problem_response(408, "The upload took too long", detail, limit=self.seconds)
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
