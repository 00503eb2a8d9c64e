"""Works and outcomes as bytes: JSON and pictures only, so that writing to Redis is not running code here.

What travels may be read by the release before and the one after: facts of unknown names are passed over, and
options at their defaults are not written, so that a new one concerns only those who use it. They are not sent
to workers that have not announced to know them. tests/service/test_wire.py keeps what each release wrote.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from service import errors
from service.cache.answers import about, result_from
from service.contracts import Outcome, problem_summary
from service.errors import ComputeFailed, Problem, Unavailable
from service.observability import tracing
from service.work import TASKS, Deadline, Result, Task, Work

log = logging.getLogger("retouch.wire")

VERSION = 1  # raised when a neighbour of the release before could misunderstand what is written
PROBLEMS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Problem)
}


# What a process of this release can be asked for.
OPTIONS: dict[Task, set[str]] = {name: set(kind.parameters.model_fields) for name, kind in TASKS.items()}


def upload_fields(work: Work, deadline: Deadline) -> dict[str, bytes]:
    head: dict[str, Any] = {
        "task": work.task,
        "model": work.model,
        "request_id": work.request_id,
        "owner": work.owner,
        "weights": work.weights,
        "cache_key": work.key,
        "parameters": work.parameters.model_dump(exclude_defaults=True),
        "limit": {"setting": deadline.setting, "seconds": deadline.seconds},
    }
    if trace := tracing.carried():
        head["trace"] = trace
    return {"head": json.dumps(head).encode(), **work.files}


def work_from(upload: Mapping[bytes, bytes]) -> Work:
    head = json.loads(upload[b"head"])
    kind = TASKS[head["task"]]
    if unknown := head["parameters"].keys() - OPTIONS[kind.name]:
        # Written because it is not at its default: without it the answer would be another.
        raise Unavailable(f"This worker does not know {', '.join(sorted(unknown))} yet.", retry_after=5)
    return Work(
        kind.name,
        head["model"],
        kind.parameters.model_validate(head["parameters"]),
        {name: upload[name.encode()] for name in kind.files if name.encode() in upload},
        head.get("cache_key") or uuid.uuid4().hex,  # a key that nobody else has
        head.get("request_id", ""),
        head.get("owner", ""),
        head.get("weights", ""),
    )


def trace_from(upload: Mapping[bytes, bytes]) -> dict[str, str]:
    sent = json.loads(upload[b"head"]).get("trace")
    return (
        {key: value for key, value in sent.items() if isinstance(value, str)}
        if isinstance(sent, dict)
        else {}
    )


def deadline_from(upload: Mapping[bytes, bytes], seconds: float) -> Deadline:
    """Of which so many seconds are left."""
    limit = json.loads(upload[b"head"]).get("limit", {})
    left = Deadline.after(seconds, limit.get("setting", ""))
    return Deadline(left.at, left.setting, limit.get("seconds", seconds))


def outcome_fields(outcome: Outcome) -> dict[str, bytes]:
    if isinstance(outcome, Result):
        head: dict[str, Any] = {"result": about(outcome), "timings": outcome.timings}
        return {"head": json.dumps(head).encode(), "content": outcome.content}
    return {"head": json.dumps({"problem": problem_fields(outcome)}).encode()}


def outcome_from(stored: Mapping[bytes, bytes]) -> Outcome:
    try:
        head = json.loads(stored[b"head"])
        if "problem" in head:
            return problem_from(head["problem"])
        return result_from(head["result"], stored[b"content"], head.get("timings"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("an outcome cannot be read: %s", error)
        return ComputeFailed("The answer that a worker left cannot be read.")


def report(outcome: Outcome) -> dict[str, Any]:
    """What a job says about its outcome without showing it."""
    if isinstance(outcome, Result):
        return {"timings": outcome.timings}
    return {"problem": problem_summary(outcome)}


def problem_fields(problem: Problem) -> dict[str, Any]:
    return {
        "kind": type(problem).__name__,
        "detail": problem.detail,
        "retry_after": problem.retry_after,
        "extra": problem.extra,
    }


def problem_from(stored: Mapping[str, Any]) -> Problem:
    kind = PROBLEMS.get(stored["kind"], Problem)
    return kind(stored["detail"], retry_after=stored.get("retry_after"), **stored.get("extra", {}))
