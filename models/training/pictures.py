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

# Photographs that judge and are never trained on: how their SHA-256 begins. Repetition and long lines, two
# of a kind side by side.
HELD_OUT = (
    *("8b2c7c679759bb8c", "0659240fd2623a6f", "7ad0c6a07d84027f", "8d10a1d8777e5f59"),  # facades
    *("51311d44a2304d4a", "55d7ac463eed2834", "ea96183ed4c95849", "78d6bd0956278ad7"),  # facades
    *("fcd8ddbdbde2c50d", "e865afe2faf321df", "da709c65dd49d62d", "5500f9f32252e5ee"),  # grids
    *("b6f6e6da58df7c10", "f487cf707685547a", "6107499f87266156", "1109847e986c9566"),  # stones, ornament
    *("aa746ed1849dde38", "211f98578ff7b1ed", "fa87358b860b5690", "1578de98e25a523e"),  # roofs, tracks
    *("7a8fbd552d6d4170", "b1b769e28caaa212", "a2430de4e0bcb17f", "04d91fa945c9a3c9"),  # horizons, skies
)
DIGITS = 16


class Pictures:
    """Read-only uint8 pictures of different sizes, by number."""

    def __init__(self, folder: Path, cache: Path, longest: int = 1024) -> None:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        files = [path for path in files if digest(path)[:DIGITS] not in HELD_OUT]
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


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
