"""The names of everything in Redis. Autoscalers read the streams and the group, so these are a contract."""

from __future__ import annotations

from typing import Literal

Priority = Literal["interactive", "batch"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "batch")  # in the order in which they are served

GROUP = "workers"
FLEET = "retouch:fleet"  # hash: a worker's name to what it hosts, and when it said so
DEAD = "retouch:dead"  # stream: what was given up, and why


def stream(model: str, priority: Priority) -> str:
    return f"retouch:jobs:{model}:{priority}"


def upload(job: str) -> str:
    """Hash: the pictures and parameters. It lives until the job's deadline, so its life is the deadline."""
    return f"retouch:upload:{job}"


def outcome(job: str) -> str:
    return f"retouch:outcome:{job}"


def answers(api: str) -> str:
    """Channel: names of finished jobs, for the process that waits for them."""
    return f"retouch:answers:{api}"
