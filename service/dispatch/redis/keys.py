"""The names of everything in Redis. Autoscalers read the streams and the group, so these are a contract."""

from __future__ import annotations

from typing import Literal

Priority = Literal["interactive", "batch"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "batch")  # in the order in which they are served

GROUP = "workers"
FLEET = "retouch:fleet"  # hash: a worker's name to what it hosts, and when it said so
COURIERS = "couriers"  # the group that delivers callbacks
CALLBACKS = "retouch:callbacks"  # stream: orders that are over and whose callers are to be told
DEAD = "retouch:dead"  # stream: what was given up, and why


def stream(model: str, priority: Priority) -> str:
    return f"retouch:jobs:{model}:{priority}"


def upload(job: str) -> str:
    """Hash: the pictures and parameters. It lives until the job's deadline, so its life is the deadline."""
    return f"retouch:upload:{job}"


def desk(worker: str) -> str:
    """The upload of what a worker has just been given, for the moment in which it is read."""
    return f"retouch:desk:{worker}"


def outcome(job: str) -> str:
    """Stream, of one entry: reading a stream is the way to wait for a key and to leave it there."""
    return f"retouch:outcome:{job}"


def draft(job: str, worker: str) -> str:
    """A worker's answer, for the moment in which it is decided whether it becomes the outcome."""
    return f"retouch:draft:{job}:{worker}"


def record(job: str) -> str:
    """Hash: how an order stands. It outlives its upload, and lives as long as its outcome."""
    return f"retouch:record:{job}"


def idempotency(key: str) -> str:
    return f"retouch:idempotency:{key}"


def events(job: str) -> str:
    """Channel: something about this order has changed."""
    return f"retouch:events:{job}"
