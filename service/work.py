"""The words that every room shares: tasks and their parameters, a work, one run of it, and its result."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from service.errors import Cancelled, DeadlineExceeded, Problem, invalid_parameters, nearest

M = TypeVar("M", bound=BaseModel)
Task = Literal["inpaint", "upscale"]
MaskMode = Literal["white", "black", "alpha", "auto"]
Format = Literal["png", "webp", "jpeg", "avif"]
MEDIA_TYPES: dict[str, str] = {name: f"image/{name}" for name in get_args(Format)}
ALIASES = {"jpg": "jpeg"}  # other names of formats

# Raise this whenever the same pixels, parameters and weights would come out as other bytes.
PIPELINE_VERSION = 4


class Parameters(BaseModel):
    """What both tasks share. Unknown names are refused: a misspelt option must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = Field(
        None, max_length=100, description="Name of a model from GET /models.", examples=["patchmatch"]
    )
    format: Format = Field("png", description="Format of the answer; without it, what Accept prefers.")
    quality: int = Field(90, ge=1, le=100, description="Quality of a webp, jpeg or avif answer.")
    keep_metadata: bool = Field(False, description="Keep EXIF data (without the orientation).")

    @field_validator("format", mode="before")
    @classmethod
    def _by_its_other_name(cls, name: Any) -> Any:
        return ALIASES.get(name, name) if isinstance(name, str) else name

    @property
    def enlarges(self) -> bool:
        """Whether detail is to be made that was not there."""
        return False


# A side to extend by: pixels, or per cent of the picture's side.
MARGIN = r"\d{1,5}(\.\d{1,3})?%?"


class InpaintParameters(Parameters):
    mask_mode: MaskMode = Field("white", description="What marks the hole in the mask.")
    grow: int = Field(0, ge=-256, le=256, description="Grow (or shrink) the hole by so many pixels.")
    feather: int = Field(0, ge=0, le=256, description="Blend the fill outwards over so many pixels.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Another fill, of models that draw at random.")
    extend: str | None = Field(
        None,
        pattern=f"^{MARGIN}(,{MARGIN}){{3}}$",
        description='Picture to add round it: "top,right,bottom,left", each in pixels or per cent.',
    )


class UpscaleParameters(Parameters):
    scale: float | None = Field(
        None, ge=1.0, le=8.0, description="Factor; any real number from 1 to 8.", examples=[2.7]
    )
    width: int | None = Field(None, ge=1, description="Target width, instead of a factor.", examples=[1920])
    height: int | None = Field(None, ge=1, description="Target height, instead of a factor.")

    @property
    def enlarges(self) -> bool:
        return self.scale != 1

    @model_validator(mode="after")
    def _one_target(self) -> UpscaleParameters:
        if (self.scale is None) == (self.width is None and self.height is None):
            raise PydanticCustomError(
                "target", "Give either scale (1 to 8), or width and/or height in pixels."
            )
        return self


@dataclass(frozen=True)
class TaskKind:
    """All that is particular to a task but the computing: routes, options and documents follow from it."""

    name: Task
    summary: str
    parameters: type[Parameters]
    files: Mapping[str, str]  # name to what it is; the first one must be there
    bare: bool = False  # whether the picture alone may be the body


TASKS: dict[Task, TaskKind] = {
    kind.name: kind
    for kind in (
        TaskKind(
            "inpaint",
            "Fill a hole",
            InpaintParameters,
            {
                "image": "The picture. Without a mask, its transparent part is the hole.",
                "mask": "What to fill, as a picture of the same size; see mask_mode.",
                "sketch": "Lines that guide the fill, as a picture of the same size.",
            },
        ),
        TaskKind("upscale", "Enlarge by any factor", UpscaleParameters, {"image": "The picture."}, bare=True),
    )
}


def read_parameters(model: type[M], given: Mapping[str, Any], files: Iterable[str]) -> M:
    """What a caller gave, by name; Unprocessable in words where it is not what goes with these files."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        findings: list[Any] = error.errors()
        for finding in findings:
            if finding["type"] == "extra_forbidden":
                name = str(finding["loc"][0])
                finding["msg"] = (
                    f"This is a file: send it as one (curl: -F {name}=@FILE)"
                    if name in files
                    else f"There is no such parameter{nearest(name, model.model_fields)}"
                )
        raise invalid_parameters(findings) from None


@dataclass(frozen=True)
class Work:
    """One accepted request, as it travels to whoever computes it."""

    task: Task
    model: str  # resolved: never None
    parameters: Parameters
    files: Mapping[str, bytes] = field(repr=False)
    key: str  # equal for works whose answers are equal, to the byte
    request_id: str = ""
    owner: str = ""  # digest of the API key that it came with; none where no keys are asked for
    weights: str = ""  # the digest that `key` was made with

    @classmethod
    def create(
        cls,
        task: Task,
        model: str,
        digest: str,
        parameters: Parameters,
        files: Mapping[str, bytes],
        request_id: str = "",
        owner: str = "",
    ) -> Work:
        """`digest` is what the model's answers depend on: its weights, and on a GPU how that computes."""
        key = identity(task, model, digest, parameters, files)
        return cls(task, model, parameters, files, key, request_id, owner, digest)

    @property
    def bytes(self) -> int:
        return sum(map(len, self.files.values()))


def identity(task: Task, model: str, digest: str, parameters: Parameters, files: Mapping[str, bytes]) -> str:
    """SHA-256 over all that an answer depends on, each part with its length: no two splits collide."""
    hasher = hashlib.sha256()
    text = f"{PIPELINE_VERSION}\n{task}\n{model}\n{digest}\n{parameters.model_dump_json(exclude={'model'})}"
    for part in (text.encode(), *map(files.get, TASKS[task].files)):
        # An absent file differs from an empty one.
        hasher.update(b"-" if part is None else f"{len(part)}:".encode())
        hasher.update(part or b"")
    return hasher.hexdigest()


@dataclass(frozen=True)
class Deadline:
    """When an answer is due, and the setting that says so."""

    at: float  # on time.monotonic()'s clock
    setting: str = ""
    seconds: float = math.inf  # that the setting allows

    @classmethod
    def after(cls, seconds: float, setting: str) -> Deadline:
        return cls(time.monotonic() + seconds, setting, seconds)

    @property
    def left(self) -> float:
        return self.at - time.monotonic()

    def exceeded(self) -> DeadlineExceeded:
        allowed = f" {self.setting} allows ({self.seconds:g} s)" if self.setting else " was allowed"
        return DeadlineExceeded(f"The request took longer than{allowed}.")

    @asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """Cancels what is inside when the time has come, and raises what is to be said of it."""
        limit = asyncio.timeout(None if self.at == math.inf else max(0.0, self.left))
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise self.exceeded() from None
            raise


NO_DEADLINE = Deadline(math.inf)


class Progress:
    """How many of a run's windows are computed. Counted in the engine's thread, which calls `changed`."""

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


CacheState = Literal["hit", "miss", "shared", "bypass"]


@dataclass(eq=False)
class Run:
    """One attempt to answer a work: what changes while it lasts."""

    work: Work
    deadline: Deadline = NO_DEADLINE
    progress: Progress = field(default_factory=Progress)
    cancelled: threading.Event = field(default_factory=threading.Event)
    looked_up: bool = False  # the cache was asked before, and did not know

    def obstacle(self) -> tuple[str, Problem] | None:
        """Why going on would be wasted: a reason for the metrics, and the answer."""
        if self.cancelled.is_set():
            return "cancelled", Cancelled("The client left before the answer was ready.")
        if self.deadline.left <= 0:
            return "deadline", self.deadline.exceeded()
        return None


@dataclass(frozen=True)
class Result:
    content: bytes = field(repr=False)
    media_type: str
    model: str
    width: int
    height: int
    hole: float | None = None  # share of the picture that was filled
    windows: int = 0
    timings: dict[str, float] = field(default_factory=dict)  # seconds: decode, queue, compute, encode
