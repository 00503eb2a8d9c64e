"""Works and outcomes as bytes: JSON and pictures only, so that writing to Redis is not running code here.

What travels may be read by the release before and the one after: unknown names are passed over, and what is
left at its default is not written, so that a new option costs only those who use it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from service import errors
from service.cache.answers import about
from service.contracts import Outcome, problem_summary
from service.errors import Problem
from service.work import TASKS, Deadline, Result, Work

PROBLEMS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Problem)
}
RESULT = {each.name for each in fields(Result)} - {"content", "timings"}


def upload_fields(work: Work, deadline: Deadline) -> dict[str, bytes]:
    head = {
        "task": work.task,
        "model": work.model,
        "request_id": work.request_id,
        "cache_key": work.key,
        "parameters": work.parameters.model_dump(exclude_defaults=True),
        "limit": {"setting": deadline.setting, "seconds": deadline.seconds},
    }
    return {"head": json.dumps(head).encode(), **work.files}


def work_from(upload: Mapping[bytes, bytes]) -> Work:
    head = json.loads(upload[b"head"])
    kind = TASKS[head["task"]]
    known = kind.parameters.model_fields
    given = {name: value for name, value in head["parameters"].items() if name in known}
    return Work(
        kind.name,
        head["model"],
        kind.parameters.model_validate(given),
        {name: upload[name.encode()] for name in kind.files if name.encode() in upload},
        head.get("cache_key") or uuid.uuid4().hex,  # a key that nobody else has
        head.get("request_id", ""),
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
    head = json.loads(stored[b"head"])
    if "problem" in head:
        return problem_from(head["problem"])
    result = {name: value for name, value in head["result"].items() if name in RESULT}
    return Result(content=stored[b"content"], timings=head.get("timings", {}), **result)


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
