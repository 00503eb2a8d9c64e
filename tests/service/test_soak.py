"""`make soak` in a few seconds, with networks that cost nothing: it runs, and what it looks at is seen."""

from __future__ import annotations

from collections import Counter

from bench.soak import Report, Sample, soak
from tests.service.fleet import fleet_of


def test_mixed_traffic_leaves_nothing_behind(redis_server, tmp_path):
    told: list[str] = []
    with fleet_of(redis_server, tmp_path, cache_entry_bytes=100_000) as fleet:
        members = {
            "single": fleet.single(),
            "api": fleet.api(),
            "worker": fleet.worker("toy-fill", "toy-enlarge"),
        }
        for member in members.values():
            member.until_ready()
        report = soak(members, redis_server, minutes=0.1, tell=told.append)
    assert report.findings() == []
    assert {200, 202, 204, 304} & set(report.answers)
    assert told


def test_what_grows_is_found():
    def sample(minutes: float, memory: float, descriptors: int = 10) -> Sample:
        return Sample(minutes, memory, 0.0, descriptors, 5)

    minutes = [0.0, *range(3, 31)]
    report = Report(
        {
            "steady": [sample(at, 400e6) for at in minutes],
            "large": [sample(at, 400e6 if at < 10 else 600e6) for at in minutes],
            "growing": [sample(at, 400e6 + 4e6 * at) for at in minutes],
            "leaking": [sample(at, 400e6, 10 + round(at)) for at in minutes],
        },
        Counter(),
        ["no answer"],
        {"retouch:upload:1"},
    )
    about = ["requests failed", "left in Redis", "large grew by", "growing still grows", "leaking keeps"]
    assert len(report.findings()) == len(about)
    for finding, words in zip(report.findings(), about, strict=True):
        assert words in finding
