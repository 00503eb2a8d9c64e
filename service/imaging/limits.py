"""What a stranger's picture may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.errors import Unprocessable


@dataclass(frozen=True)
class Limits:
    max_pixels: int
    max_side: int
    seconds: float = math.inf  # that are left to decode it

    def check(self, height: int, width: int, what: str = "The picture") -> None:
        seen = f"{what} is {width}x{height} pixels"
        if height < 1 or width < 1:
            raise Unprocessable(f"{seen}; it has to have at least one.")
        if max(height, width) > self.max_side:
            raise Unprocessable(f"{seen}; no side may be longer than {self.max_side}.", limit=self.max_side)
        if height * width > self.max_pixels:
            raise Unprocessable(
                f"{seen}; at most {self.max_pixels} pixels are accepted.", limit=self.max_pixels
            )
