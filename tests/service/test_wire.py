"""What travels through Redis arrives as it was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.contracts import Outcome
from service.errors import Problem
from service.redis.wire import deadline_from, outcome_fields, outcome_from, upload_fields, work_from
from service.work import Deadline, InpaintParameters, Result, UpscaleParameters, Work


def read_back(outcome: Outcome) -> Outcome:
    return outcome_from({name.encode(): value for name, value in outcome_fields(outcome).items()})


def through_redis(work: Work, deadline: Deadline) -> dict[bytes, bytes]:
    return {name.encode(): value for name, value in upload_fields(work, deadline).items()}


files = st.fixed_dictionaries(
    {"image": st.binary(max_size=50)},
    optional={"mask": st.binary(max_size=20), "sketch": st.binary(max_size=20)},
)


@given(files=files, grow=st.integers(-256, 256))
def test_works_survive_the_wire(files, grow):
    parameters = InpaintParameters(grow=grow, model="echo")
    sent = Work.create("inpaint", "echo", "digest", parameters, files, "id")
    upload = through_redis(sent, Deadline.after(9, "RETOUCH_TIMEOUT"))
    assert work_from(upload) == sent
    left = deadline_from(upload, 7.5)
    assert left.left == pytest.approx(7.5, abs=1)
    assert (left.setting, left.seconds) == ("RETOUCH_TIMEOUT", 9)


def test_enlarging_survives_the_wire():
    sent = Work.create("upscale", "m", "digest", UpscaleParameters(scale=2.5), {"image": b"x"})
    assert work_from(through_redis(sent, Deadline.after(9, ""))) == sent


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
