"""How fast each model works on this machine, measured as it works."""

from __future__ import annotations

from collections import defaultdict

from service.averages import Average


class Pace:
    def __init__(self) -> None:
        self._rates: defaultdict[str, Average] = defaultdict(Average)

    def observe(self, model: str, weight: float, seconds: float) -> None:
        self._rates[model].add(seconds / weight)

    def seconds(self, model: str, weight: float) -> float:
        """The time that windows of this weight will take; 0 for a model that never ran, so that it may."""
        return (self._rates[model].value or 0.0) * weight

    def forget(self, model: str) -> None:
        self._rates.pop(model, None)
