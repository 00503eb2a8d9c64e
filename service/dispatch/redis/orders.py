"""Orders kept in Redis: any API process knows them, any worker computes them, none is lost with a process."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from service.dispatch.redis import keys
from service.dispatch.redis.client import FAILURES, Backoff, connect, connect_blocking
from service.dispatch.redis.couriers import Courier
from service.dispatch.redis.producer import RedisDispatcher
from service.dispatch.redis.wire import outcome_from
from service.errors import DeadlineExceeded, NotFound, Problem, Unavailable
from service.jobs.job import Result
from service.orders.callbacks import Callbacks
from service.orders.order import FINAL, Order, Request, State, problem_summary, same_request
from service.settings import Settings

LOOK = 15.0  # seconds without a message after which one who watches looks for himself
FURTHEST = 1000  # a position behind more than this is given as this

LATE = DeadlineExceeded("The job took longer than RETOUCH_JOB_TIMEOUT allows.")


class RedisOrders:
    def __init__(self, settings: Settings, dispatcher: RedisDispatcher, callbacks: Callbacks) -> None:
        assert settings.redis_url
        self._settings = settings
        self._dispatcher = dispatcher
        self._client: Any = connect(settings.redis_url)
        self._url = settings.redis_url
        self._courier = Courier(settings, callbacks, self) if callbacks.on else None

    async def start(self) -> None:
        if self._courier:
            await self._courier.start()

    async def stop(self) -> None:
        if self._courier:
            await self._courier.stop()
        await self._client.aclose()

    async def create(self, request: Request) -> Order:
        name, job, settings = uuid.uuid4().hex, request.job, self._settings
        known = await self._dispatcher.put(
            name,
            job,
            "batch",
            settings.job_timeout,
            keys.events(name),
            record={
                "task": job.task,
                "model": job.model,
                "life": str(1000 * settings.job_ttl),
                "callback": request.callback,
                "key": request.key,
            },
            record_seconds=settings.job_timeout + settings.job_ttl,
            key=(request.key, f"{name} {request.fingerprint}" if request.key else ""),
        )
        if known:
            name, _, fingerprint = known.partition(" ")
            same_request(fingerprint, request.fingerprint)
        return await self.get(name)

    async def get(self, name: str) -> Order:
        with reachable():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hgetall(keys.record(name))
                pipe.time()
                fields, (now, _) = await pipe.execute()
            if not fields:
                raise NotFound("There is no such job, or it is over for too long.")
            record = {key.decode(): value.decode() for key, value in fields.items()}
            order = order_from(name, record)
            if order.state not in FINAL and now > float(record["deadline"]):
                order.state, order.problem = "failed", problem_summary(LATE)
            if order.state == "queued":
                stream = keys.stream(order.model, "batch")
                ahead = await self._client.xrange(stream, "-", f"({record['entry']}", FURTHEST)
                order.position = len(ahead)
        return order

    async def outcome(self, name: str) -> Result | Problem | None:
        order = await self.get(name)
        if order.state not in FINAL:
            return None
        with reachable():
            found = await self._client.xrange(keys.outcome(name), count=1)
        return outcome_from(found[0][1]) if found else LATE

    async def delete(self, name: str) -> None:
        with reachable():
            key = await self._client.hget(keys.record(name), "key")
            if key is None:
                raise NotFound("There is no such job, or it is over for too long.")
            # Its entry stays and is dropped by the worker that comes to it: there is nothing to compute.
            gone = [keys.upload(name), keys.outcome(name), keys.record(name)]
            await self._client.unlink(*gone, keys.idempotency(key.decode()))
            await self._client.publish(keys.events(name), name)

    async def callback(self, name: str) -> str:
        """Where to tell that it is over."""
        return str((await self._client.hget(keys.record(name), "callback") or b"").decode())

    async def watch(self, name: str) -> AsyncGenerator[Order, None]:
        client, backoff = connect_blocking(self._url, LOOK), Backoff()
        last: Order | None = None
        try:
            while True:
                try:
                    async with client.pubsub() as subscription:
                        await subscription.subscribe(keys.events(name))
                        while True:
                            # The first message confirms the subscription: nothing after it is missed.
                            await subscription.get_message(timeout=LOOK)
                            order = await self.get(name)
                            if order != last:
                                yield order
                            last = order
                            if order.state in FINAL:
                                return
                except (*FAILURES, Unavailable):
                    await backoff.pause()
        finally:
            await client.aclose()


def order_from(name: str, record: Mapping[str, str]) -> Order:
    def moment(field: str) -> float | None:
        return float(record[field]) if field in record else None

    report: dict[str, Any] = json.loads(record.get("report", "{}"))
    return Order(
        name,
        "inpaint" if record["task"] == "inpaint" else "upscale",
        record["model"],
        cast(State, record["state"]),
        float(record["created"]),
        moment("started"),
        moment("finished"),
        windows_done=int(record.get("windows_done", 0)),
        windows_total=int(record.get("windows_total", 0)),
        timings=report.get("timings", {}),
        problem=report.get("problem"),
    )


@contextmanager
def reachable() -> Iterator[None]:
    try:
        yield
    except FAILURES:
        raise Unavailable("The queue cannot be reached.", retry_after=2) from None
