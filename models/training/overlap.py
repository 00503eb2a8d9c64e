"""No training picture may be an evaluation picture: figures from such weights would be worth nothing.

Copies that were saved again, made smaller or made lighter are found as well, by comparing which of two
neighbouring cells of a coarse grid is the brighter one. Crops are not: those must be kept apart by hand.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.training.errors import TrainingError
from models.training.pictures import SUFFIXES

GRID = 12
# Of 264 comparisons. Measured: evaluation pictures saved as JPEG, at half size or lighter differ from
# themselves in at most 16 (but for two without texture), from 1,393 other photographs in at least 38.
SAME = 28


class OverlapError(TrainingError):
    """Training pictures that are evaluation pictures; the message names them."""


@dataclass(frozen=True)
class Print:
    path: Path
    digest: str
    signs: npt.NDArray[np.bool_]


def fingerprint(path: Path) -> Print:
    content = path.read_bytes()
    picture = Image.open(path)
    picture.draft("L", (8 * GRID, 8 * GRID))  # decodes JPEGs at a fraction of their size
    cells = picture.convert("L").resize((GRID, GRID), Image.Resampling.BOX)
    grey = np.asarray(cells, np.int16)
    signs = [(np.diff(grey, axis=axis) > 0).ravel() for axis in (0, 1)]
    return Print(path, hashlib.sha256(content).hexdigest(), np.concatenate(signs))


def fingerprints(files: list[Path]) -> list[Print]:
    return [fingerprint(path) for path in files]


def overlaps(training: list[Print], judged: list[Print]) -> list[tuple[Path, Path]]:
    """Pairs of a training picture and the evaluation picture that it is."""
    if not training or not judged:
        return []
    known = {one.digest: one.path for one in judged}
    signs = np.stack([one.signs for one in judged])
    found = []
    for one in training:
        different = np.count_nonzero(signs != one.signs, axis=1)
        closest = int(different.argmin())
        if one.digest in known:
            found.append((one.path, known[one.digest]))
        elif different[closest] < SAME:
            found.append((one.path, judged[closest].path))
    return found


def refuse_overlap(data: Path, held_out: Path) -> None:
    """Raise if a picture of the folder `data` is one of those anywhere under `held_out`."""
    training = sorted(path for path in data.iterdir() if path.suffix.lower() in SUFFIXES)
    judged = sorted(path for path in held_out.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = overlaps(fingerprints(training), fingerprints(judged))
    if found:
        shown = ", ".join(f"{one.name} is {other.relative_to(held_out)}" for one, other in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise OverlapError(f"{data} holds evaluation pictures: {shown}{more}; take them out")
