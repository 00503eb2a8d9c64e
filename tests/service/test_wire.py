"""What travels through Redis arrives as it was sent."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.dispatch.redis.wire import Outcome, job_from, outcome_fields, outcome_from, upload_fields
from service.errors import Problem
from service.jobs.job import InpaintParameters, Job, Result, UpscaleParameters


def read_back(outcome: Outcome) -> Outcome:
    return outcome_from({name.encode(): value for name, value in outcome_fields(outcome).items()})


optional = st.none() | st.binary(max_size=20)


@given(image=st.binary(max_size=50), mask=optional, sketch=optional, grow=st.integers(-256, 256))
def test_jobs_survive_the_wire(image, mask, sketch, grow):
    parameters = InpaintParameters(grow=grow, model="echo")
    sent = Job("inpaint", "echo", image, parameters, time.monotonic() + 9, mask, sketch, "id", "key")
    got = job_from({name.encode(): value for name, value in upload_fields(sent).items()}, 9)
    same = ("task", "model", "image", "mask", "sketch", "parameters", "request_id", "cache_key")
    assert [getattr(got, name) for name in same] == [getattr(sent, name) for name in same]
    assert got.deadline == pytest.approx(sent.deadline, abs=1)


def test_enlarging_survives_the_wire():
    sent = Job("upscale", "m", b"x", UpscaleParameters(scale=2.5), time.monotonic() + 9)
    got = job_from({name.encode(): value for name, value in upload_fields(sent).items()}, 9)
    assert got.parameters == sent.parameters


@given(st.binary(max_size=50), st.none() | st.floats(0, 1))
def test_results_survive_the_wire(content, hole):
    result = Result(content, "image/png", "m", 3, 4, hole, 5, {"decode": 0.5})
    assert read_back(result) == result


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_problems_survive_the_wire(kind):
    if not issubclass(kind, Problem):
        return
    problem = read_back(kind("what\nhappened", retry_after=3.5, limit=7))
    assert type(problem) is kind
    assert (problem.detail, problem.retry_after, problem.extra) == ("what\nhappened", 3.5, {"limit": 7})
