"""A folder of photographs, decoded once into one memory-mapped file that trainers share."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class Pictures:
    """Read-only uint8 pictures of different sizes, by number."""

    def __init__(self, folder: Path, cache: Path, longest: int = 1024) -> None:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not files:
            raise FileNotFoundError(f"no pictures in {folder}")
        self.names = [path.name for path in files]
        listing = json.dumps([[path.name, path.stat().st_size] for path in files] + [longest])
        key = hashlib.sha256(listing.encode()).hexdigest()[:16]
        self.file = cache / f"{key}.u8"
        index = cache / f"{key}.json"
        if not index.exists():
            cache.mkdir(parents=True, exist_ok=True)
            self._decode(files, index, longest)
        self.shapes: list[tuple[int, int]] = [tuple(shape) for shape in json.loads(index.read_text())]
        self.starts = np.cumsum([0, *(height * width * 3 for height, width in self.shapes)])
        self._pixels: npt.NDArray[np.uint8] = np.memmap(self.file, np.uint8, "r")

    def _decode(self, files: list[Path], index: Path, longest: int) -> None:
        shapes = []
        # Of this process alone: two trainings may be started at once on the same folder.
        partial = self.file.with_suffix(f".{os.getpid()}")
        with partial.open("wb") as out:
            for path in files:
                picture = Image.open(path).convert("RGB")
                picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
                shapes.append((picture.height, picture.width))
                out.write(np.asarray(picture).tobytes())
        os.replace(partial, self.file)
        partial.write_text(json.dumps(shapes))
        os.replace(partial, index)  # last: it says that the data are complete

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> npt.NDArray[np.uint8]:
        height, width = self.shapes[number]
        start = self.starts[number]
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)
