"""A job: one accepted request with everything that is needed to answer it, here or on a worker elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MaskMode = Literal["white", "black", "alpha", "auto"]
Format = Literal["png", "webp", "jpeg"]
MEDIA_TYPES: dict[str, str] = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}


class Parameters(BaseModel):
    """What both tasks share. Unknown names are refused: a misspelt option must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = Field(None, max_length=100, description="Name of a model from GET /models.")
    format: Format = Field("png", description="Format of the answer.")
    quality: int = Field(90, ge=1, le=100, description="Quality of a webp or jpeg answer.")
    keep_metadata: bool = Field(False, description="Keep EXIF data (without the orientation).")


class InpaintParameters(Parameters):
    mask_mode: MaskMode = Field("white", description="What marks the hole in the mask.")
    grow: int = Field(0, ge=-256, le=256, description="Grow (or shrink) the hole by so many pixels.")
    feather: int = Field(0, ge=0, le=256, description="Blend the fill outwards over so many pixels.")


class UpscaleParameters(Parameters):
    scale: float | None = Field(None, ge=1.0, le=8.0, description="Factor; any real number from 1 to 8.")
    width: int | None = Field(None, ge=1, description="Target width, instead of a factor.")
    height: int | None = Field(None, ge=1, description="Target height, instead of a factor.")


Task = Literal["inpaint", "upscale"]


class Progress:
    """How many of a job's windows are computed. Counted in the engine's thread, which calls `changed`."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.done = 0
        self.total = 0
        self._changed = changed

    def expect(self, windows: int) -> None:
        self.total += windows
        self._changed()

    def computed(self) -> None:
        self.done += 1
        self._changed()


@dataclass(frozen=True)
class Job:
    task: Task
    model: str  # resolved: never None
    image: bytes
    parameters: InpaintParameters | UpscaleParameters
    deadline: float  # on time.monotonic()'s clock
    mask: bytes | None = None
    sketch: bytes | None = None
    request_id: str = ""
    cache_key: str = ""  # under which whoever computes keeps the answer; empty: whoever asked does
    cancelled: threading.Event = field(default_factory=threading.Event)
    progress: Progress = field(default_factory=Progress)

    def expired(self) -> bool:
        return time.monotonic() >= self.deadline


@dataclass(frozen=True)
class Result:
    content: bytes
    media_type: str
    model: str
    width: int
    height: int
    hole: float | None = None  # share of the picture that was filled
    windows: int = 0
    timings: dict[str, float] = field(default_factory=dict)  # seconds: decode, queue, compute, encode
