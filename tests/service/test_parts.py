"""The small parts: cores, pace and the memory budget."""

from __future__ import annotations

import os

import pytest

from service.engine.cores import usable_cores
from service.engine.pace import Pace
from service.local.budget import Budget


@pytest.mark.parametrize(
    ("content", "cores"), [("max 100000", None), ("100000 100000", 1), ("nonsense", None)]
)
def test_cores_follow_the_containers_quota(tmp_path, content, cores):
    limit = tmp_path / "cpu.max"
    limit.write_text(content)
    assert usable_cores(limit) == (cores or len(os.sched_getaffinity(0)))


def test_pace_follows_what_was_measured():
    pace = Pace()
    assert pace.seconds("a", 5) == 0
    pace.observe("a", 2, 4)
    assert pace.seconds("a", 5) == 10
    for _ in range(50):
        pace.observe("a", 1, 1)
    assert pace.seconds("a", 5) == pytest.approx(5, rel=0.01)
    pace.forget("a")
    assert pace.seconds("a", 5) == 0


def test_memory_is_granted_in_order_and_given_back():
    budget = Budget(10)
    first, second, third = (budget.reserve(pixels) for pixels in (6, 6, 2))
    assert first.granted.done()
    # The third would fit, but overtaking would starve large pictures.
    assert not second.granted.done()
    assert not third.granted.done()
    first.release()
    assert second.granted.done()
    assert third.granted.done()
    second.release()
    second.release()
    third.release()
    assert budget.reserve(10).granted.done()


def test_a_picture_larger_than_the_budget_gets_all_of_it():
    budget = Budget(10)
    small = budget.reserve(1)
    large = budget.reserve(1000)
    assert not large.granted.done()
    small.release()
    assert large.granted.done()


def test_leaving_the_queue_lets_the_next_one_in():
    budget = Budget(10)
    holder, impatient, patient = budget.reserve(5), budget.reserve(10), budget.reserve(5)
    impatient.release()
    assert patient.granted.done()
    assert not impatient.granted.done()
    holder.release()
