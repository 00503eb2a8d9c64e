"""Findings, and the three ways to show them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    grade: Literal["ok", "advice", "fault"]
    about: str
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        return f"{self.grade:7} {self.about:24} {self.text}"


def graded(good: bool, about: str, text: str, **numbers: Any) -> Finding:
    return Finding("ok" if good else "fault", about, text, numbers)


def as_json(findings: Sequence[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=1)


def as_markdown(findings: Iterable[Finding]) -> str:
    rows = "".join(f"| {each.grade} | {each.about} | {each.text} |\n" for each in findings)
    return f"# What `retouch doctor` found\n\n| grade | about | found |\n| --- | --- | --- |\n{rows}"
