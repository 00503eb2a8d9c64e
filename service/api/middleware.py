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
from service.errors import Overloaded, TooLarge, UploadTooSlow
from service.observability.logs import FIELDS, request_id
from service.observability.metrics import Metrics

log = logging.getLogger("retouch.request")
PROBES = {"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_probe(scope: Scope) -> bool:
    return scope["path"].removeprefix(scope.get("root_path", "")) in PROBES


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
        except Exception as error:
            # Caught here and not by the framework's own outermost layer, which lies outside this one and
            # would answer without the id under which the failure was logged.
            log.error("unexpected failure", exc_info=error)
            if status != 499:
                raise
            detail = "The failure was logged under this request id."
            await problem_response(500, "Something went wrong on our side", detail)(
                scope, receive, send_with_id
            )
        finally:
            seconds = time.perf_counter() - started
            # The route's template, not the path: a caller must not be able to invent label values.
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.request_seconds.labels(route, str(status)).observe(seconds)
            client, _ = scope.get("client") or ("", 0)
            fields = {"method": scope["method"], "route": route, "status": status, "client": client, **fields}
            # Whoever probes every few seconds would drown everybody else.
            level = logging.DEBUG if route in PROBES and status < 400 else logging.INFO
            log.log(level, "request", extra={FIELDS: {**fields, "seconds": round(seconds, 4)}})
            request_id.reset(token)


class Heads:
    """HEAD is answered as GET is, up to the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        ended = False

        async def send_head(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                scope["method"] = "HEAD"  # for the server, which counts the bytes of other answers
                await send(message)
            elif not ended:  # at once: what follows may take as long as a job
                ended = True
                await send({"type": "http.response.body", "body": b""})

        scope["method"] = "GET"  # in place: the routes leave in it which of them it was
        await self.app(scope, receive, send_head)


class BodyBounds:
    """An upload must stay within a number of bytes and be complete within a number of seconds; all uploads
    together must stay within a number of bytes, from their first to the end of their answer.

    The bytes are checked by the announced length and again while they come in; the time because a sender that
    drips bytes must not hold a place for ever. What is raised inside `receive` reaches the route, and leaves
    as a problem like any other.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_together: int, seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_together = max_together
        self.seconds = seconds
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self.seconds
        header = Headers(scope=scope).get("content-length", "")
        announced = int(header[:20]) if header.isdecimal() else 0
        received = held = 0
        complete = False

        def hold(size: int) -> None:
            nonlocal held
            if size > self.max_bytes:
                raise self.too_large()
            more = size - held
            if more > 0:
                # One upload alone may always come in: a bound that admits nobody would be none.
                if self.held > held and self.held + more > self.max_together:
                    raise self.too_much()
                self.held += more
                held = size

        async def bounded() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()
            hold(announced)
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                detail = f"The upload was not complete after {self.seconds:g} seconds."
                raise UploadTooSlow(detail, limit=self.seconds) from None
            received += len(message.get("body", b""))
            hold(received)
            complete = not message.get("more_body", False)
            return message

        try:
            await self.app(scope, bounded, send)
        finally:
            self.held -= held

    def too_large(self) -> TooLarge:
        return TooLarge(f"The body may have at most {self.max_bytes} bytes.", limit=self.max_bytes)

    def too_much(self) -> Overloaded:
        return Overloaded(
            "Too many uploads are being answered (RETOUCH_UPLOAD_BYTES).",
            retry_after=5,
            limit=self.max_together,
        )
