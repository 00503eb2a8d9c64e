"""Averages that follow what they measure."""

from __future__ import annotations

# The share of a new measurement: old enough to be steady, young enough to follow.
FRESHNESS = 0.2


class Average:
    """Exponential; None until something was measured."""

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, measured: float) -> None:
        self.value = measured if self.value is None else self.value + (measured - self.value) * FRESHNESS
