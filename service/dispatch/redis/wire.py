"""Jobs and outcomes as bytes: JSON and pictures only, so that writing to Redis is not running code here."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from service import errors
from service.cache.entry import facts
from service.errors import Problem
from service.jobs.job import InpaintParameters, Job, Progress, Result, UpscaleParameters
from service.orders.order import problem_summary

Outcome = Result | Problem
UPLOADS = ("image", "mask", "sketch")
PROBLEMS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}


def upload_fields(job: Job) -> dict[str, bytes]:
    head = {
        "task": job.task,
        "model": job.model,
        "request_id": job.request_id,
        "cache_key": job.cache_key,
        "parameters": job.parameters.model_dump(),
    }
    files = {name: getattr(job, name) for name in UPLOADS}
    return {"head": json.dumps(head).encode()} | {k: file for k, file in files.items() if file is not None}


def job_from(fields: Mapping[bytes, bytes], seconds: float, progress: Progress | None = None) -> Job:
    """The job, with so many seconds left."""
    head = json.loads(fields[b"head"])
    kind = InpaintParameters if head["task"] == "inpaint" else UpscaleParameters
    return Job(
        task=head["task"],
        model=head["model"],
        image=fields[b"image"],
        mask=fields.get(b"mask"),
        sketch=fields.get(b"sketch"),
        parameters=kind.model_validate(head["parameters"]),
        deadline=time.monotonic() + seconds,
        request_id=head["request_id"],
        cache_key=head["cache_key"],
        progress=progress or Progress(),
    )


def outcome_fields(outcome: Outcome) -> dict[str, bytes]:
    if isinstance(outcome, Result):
        head: dict[str, Any] = {"result": facts(outcome), "timings": outcome.timings}
        return {"head": json.dumps(head).encode(), "content": outcome.content}
    return {"head": json.dumps({"problem": problem_fields(outcome)}).encode()}


def outcome_from(fields: Mapping[bytes, bytes]) -> Outcome:
    head = json.loads(fields[b"head"])
    if "problem" in head:
        return problem_from(head["problem"])
    return Result(content=fields[b"content"], timings=head["timings"], **head["result"])


def report(outcome: Outcome) -> dict[str, Any]:
    """What an order says about its outcome without showing it."""
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


def problem_from(fields: Mapping[str, Any]) -> Problem:
    kind = PROBLEMS.get(fields["kind"], Problem)
    problem: Problem = kind(fields["detail"], retry_after=fields["retry_after"], **fields["extra"])
    return problem
