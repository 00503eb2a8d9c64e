"""The names of everything in Redis. Autoscalers read the streams and the group, so these are a contract.

Beside these, the scripts keep for every stream whose turn it is (retouch:turns:) and what its entries have
been given (retouch:given:).
"""

from __future__ import annotations

from typing import Literal

Priority = Literal["interactive", "batch"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "batch")  # in the order in which they are served

GROUP = "workers"
FLEET = "retouch:fleet"  # hash: a worker's name to what it hosts, and when it said so
WEIGHTS = "retouch:weights"  # hash: a model's name to the digest that counts, and until when
CALLERS = "couriers"  # the group that delivers callbacks
CALLBACKS = "retouch:callbacks"  # stream: jobs that are over and whose callers are to be told
HELD = "retouch:held"  # sorted set: jobs by when what they hold ends, in milliseconds
BYTES = "retouch:bytes"  # hash: a job to the bytes it holds and its owner; "all" and "of OWNER" to the sums
DEAD = "retouch:dead"  # stream: what was given up, and why


def stream(model: str, priority: Priority) -> str:
    return f"retouch:jobs:{model}:{priority}"


def upload(id: str) -> str:
    """Hash: the pictures and parameters. It lives until the work's deadline, so its life is the deadline."""
    return f"retouch:upload:{id}"


def outcome(id: str) -> str:
    """Hash: the answer, or why there is none."""
    return f"retouch:outcome:{id}"


def draft(id: str, worker: str) -> str:
    """A worker's outcome, for the moment in which it is decided whether it counts."""
    return f"retouch:draft:{id}:{worker}"


def record(id: str) -> str:
    """Hash: how a job stands. It outlives its upload, and lives as long as its outcome."""
    return f"retouch:record:{id}"


def idempotency(key: str) -> str:
    return f"retouch:idempotency:{key}"


def events(id: str) -> str:
    """Channel: something about this job has changed."""
    return f"retouch:events:{id}"


def answers(process: str) -> str:
    """Channel: what an API process waits for has been answered."""
    return f"retouch:answers:{process}"
