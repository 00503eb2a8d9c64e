"""Pictures for tests: made, encoded, and read back by other means than the service's own."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    """Any gray, RGB or RGBA array of 8 or 16 bits."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[pixels.shape[2]])
    return cv2.imencode(".png", pixels)[1].tobytes()


def pixels_of(content: bytes) -> np.ndarray:
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored.ndim == 2:
        return stored
    return cv2.cvtColor(stored, {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[stored.shape[2]])


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def noise(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, np.iinfo(dtype).max, (height, width, channels), endpoint=True).astype(dtype)


def square(height: int, width: int, side: int = 9, at: tuple[int, int] = (5, 6)) -> np.ndarray:
    """A mask with a white square."""
    mask = np.zeros((height, width), np.uint8)
    mask[at[0] : at[0] + side, at[1] : at[1] + side] = 255
    return mask
