"""More room round a picture, for a network to fill."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from service.imaging.picture import Picture, Pixels


@dataclass(frozen=True)
class Margins:
    """How much is added on each side, in pixels."""

    top: int = 0
    right: int = 0
    bottom: int = 0
    left: int = 0

    def around(self, height: int, width: int) -> tuple[int, int]:
        """The size with them."""
        return self.top + height + self.bottom, self.left + width + self.right

    def pad(self, plane: Pixels, value: int | None = None) -> Pixels:
        """Filled with a value, or with the nearest pixel's."""
        sides = ((self.top, self.bottom), (self.left, self.right), *((0, 0),) * (plane.ndim - 2))
        return np.pad(plane, sides, "edge") if value is None else np.pad(plane, sides, constant_values=value)

    def extend(self, picture: Picture) -> Picture:
        alpha = None if picture.alpha is None else self.pad(picture.alpha)
        return replace(picture, pixels=self.pad(picture.pixels), alpha=alpha)


NO_MARGINS = Margins()


def margins(text: str | None, height: int, width: int) -> Margins:
    """Of "top,right,bottom,left", each in pixels or in per cent of the side that it lengthens."""
    if text is None:
        return NO_MARGINS

    def pixels(part: str, side: int) -> int:
        share = part.endswith("%")
        return round(float(part.removesuffix("%")) * (side / 100 if share else 1))

    return Margins(*map(pixels, text.split(","), (height, width, height, width)))
