"""The pipeline without HTTP, for programs in Python: Pillow and numpy pictures in, the same kind out."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.imaging import Limits, Picture, decode, encode
from service.local.pipeline import Pipeline
from service.observability.metrics import Metrics
from service.settings import Settings
from service.work import TASKS, Run, Task, Work, read_parameters

Array = npt.NDArray[Any]
P = TypeVar("P", Image.Image, Array)

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class Retouch:
    """Fills and enlarges in this process. Settings are those of the service, by their names in lower case.

    Pictures are Pillow images, or arrays of uint8 or uint16: (height, width) or (height, width, 1, 3 or 4).
    Parameters are those of the API. What cannot be done raises a `service.errors.Problem` that says why.
    Threads may share one; networks stay loaded until `close`.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = Settings(**settings)
        self._pipeline = Pipeline(self._settings, Metrics())
        # A loop of its own, so that it works where another is running, as in a notebook.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="retouch", daemon=True)
        self._thread.start()

    def inpaint(self, image: P, mask: Image.Image | Array | None = None, **parameters: Any) -> P:
        """The picture, filled where the mask is white or true; without a mask, where it is transparent."""
        files = {"image": to_png(image)} | ({} if mask is None else {"mask": to_png(mask)})
        return like(image, self._answer("inpaint", files, parameters))

    def upscale(self, image: P, scale: float | None = None, **parameters: Any) -> P:
        """The picture enlarged by any factor from 1 to 8, or to a `width` and/or `height`."""
        given = parameters if scale is None else parameters | {"scale": scale}
        return like(image, self._answer("upscale", {"image": to_png(image)}, given))

    def _answer(self, task: Task, files: dict[str, bytes], given: dict[str, Any]) -> Picture:
        kind = TASKS[task]
        parameters = read_parameters(kind.parameters, given | {"format": "png"}, kind.files)
        model = self._pipeline.catalogue.resolve(task, parameters.model)
        work = Work.create(task, model.name, model.digest, parameters, files)
        answer = asyncio.run_coroutine_threadsafe(self._pipeline.answer(Run(work)), self._loop)
        return decode(answer.result().content, Limits(self._settings.max_pixels, self._settings.max_side))

    def close(self) -> None:
        self._pipeline.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def to_png(picture: Image.Image | Array) -> bytes:
    if isinstance(picture, Image.Image):
        out = io.BytesIO()
        mode = "RGBA" if picture.has_transparency_data else "RGB"
        whole = picture if picture.mode in PNG_MODES else picture.convert(mode)
        whole.save(out, "PNG", compress_level=1)
        return out.getvalue()
    if picture.dtype == np.bool_:
        picture = picture.astype(np.uint8) * 255
    planes = picture[..., None] if picture.ndim == 2 else picture
    if planes.ndim != 3 or planes.shape[2] not in (1, 3, 4) or planes.dtype not in (np.uint8, np.uint16):
        raise TypeError(
            f"a picture is an array of uint8 or uint16, (height, width) or (height, width, 1, 3 or 4); "
            f"this is {picture.dtype} {picture.shape}"
        )
    colour = np.ascontiguousarray(np.broadcast_to(planes[..., :3], (*planes.shape[:2], 3)))
    alpha = np.ascontiguousarray(planes[..., 3]) if planes.shape[2] == 4 else None
    return encode(Picture(colour, alpha, gray=planes.shape[2] == 1), "png")


def like(given: P, answer: Picture) -> P:
    """The answer as the kind of picture that was given."""
    planes = answer.pixels[..., :1] if answer.gray else answer.pixels
    if answer.alpha is not None:
        planes = np.dstack([planes, answer.alpha])
    if not isinstance(given, Image.Image):
        return planes[..., 0] if given.ndim == 2 else planes
    image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
    if answer.icc:
        image.info["icc_profile"] = answer.icc
    return image
