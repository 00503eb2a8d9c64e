"""How fast each model works on this machine, measured as it works."""

from __future__ import annotations

# The share of a new measurement in the average: old enough to be steady, young enough to follow.
FRESHNESS = 0.2


class Pace:
    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def observe(self, model: str, weight: float, seconds: float) -> None:
        rate = seconds / weight
        self._rates[model] = rate + (self._rates.get(model, rate) - rate) * (1 - FRESHNESS)

    def seconds(self, model: str, weight: float) -> float:
        """The time that windows of this weight will take; 0 for a model that never ran, so that it may."""
        return self._rates.get(model, 0.0) * weight

    def forget(self, model: str) -> None:
        self._rates.pop(model, None)
