"""A teacher's answers to degraded crops, computed once into memory-mapped files.

The teacher is Real-ESRGAN's network (Wang et al., 2021), a published one that restores while it enlarges by
four. It takes more than ten times as long as our small ones: its answers are kept, and as they are fixed, an
L1 distance to them teaches much of what it knows.

    python -m models.training.teacher CONFIG --data DIR --teacher FILE --cache DIR --count N

ends with `count` answers there; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.checkpoints import load_public
from models.checkpoints.files import read_public
from models.imresize import imresize
from models.training.degradations import Mix, Picture, degraded
from models.training.errors import TrainingError
from models.training.pictures import Pictures
from models.training.precision import autocast

FACTOR = 4  # by which the teacher enlarges


def load_teacher(file: Path, device: torch.device) -> Callable[[Picture], Picture]:
    """The published network of a file, as a function of uint8 pictures."""
    net = load_public("esrgan", read_public(file))
    if net.density != FACTOR:
        raise TrainingError(f"the teacher has to enlarge by {FACTOR}, not by {net.density}")
    net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def answer(small: Picture) -> Picture:
        image = torch.tensor(small, device=device).permute(2, 0, 1)[None].float() / 255
        with autocast(device):
            large = net.features(image.to(memory_format=torch.channels_last))[0].float()  # type: ignore[operator]
        return (large.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()

    return answer


@dataclass(frozen=True)
class LessonsConfig:
    """What the lessons are made from; files of another config are not taken up."""

    side: int = 72  # small pixels
    shrink: tuple[float, float] = (2.0, 4.0)  # photographs are made smaller by one drawn between
    native: float = 0.15  # share of lessons whose photographs are not: their own degradation is real
    seed: int = 1
    degradations: dict[str, Any] = field(default_factory=dict)  # of Mix


class Lessons:
    """Read-only: the small pictures, the teacher's answers, and the truth, which is as large as they."""

    def __init__(self, folder: Path, config: LessonsConfig) -> None:
        digest = hashlib.sha256(json.dumps(asdict(config)).encode()).hexdigest()[:16]
        self.config = config
        self.folder = folder / f"lessons-{digest}"
        side, large = config.side, FACTOR * config.side
        self.layout = np.dtype(
            [
                ("small", np.uint8, (side, side, 3)),
                ("answer", np.uint8, (large, large, 3)),
                ("truth", np.uint8, (large, large, 3)),
                # Up to which factor the truth is sharp, and whether the small picture is an undamaged one.
                ("known", np.float32),
                ("clean", np.bool_),
            ]
        )
        self.file = self.folder / "lessons"
        self.records = self.read()

    def read(self) -> npt.NDArray[np.void]:
        """All that are complete now: another process may be adding to them."""
        size = self.file.stat().st_size if self.file.exists() else 0
        count = size // self.layout.itemsize
        if not count:
            return np.zeros(0, self.layout)
        return np.memmap(self.file, self.layout, "r", shape=(count,))

    def __len__(self) -> int:
        return len(self.records)

    def fill(self, pictures: Pictures, teacher: Callable[[Picture], Picture], count: int) -> None:
        """Add lessons until there are `count`. Each depends on its number and the config alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as out:
            complete = out.tell() // self.layout.itemsize
            out.truncate(complete * self.layout.itemsize)
            for number in range(complete, count):
                out.write(self.make(number, pictures, teacher).tobytes())
                out.flush()
        self.records = self.read()

    def make(
        self, number: int, pictures: Pictures, teacher: Callable[[Picture], Picture]
    ) -> npt.NDArray[np.void]:
        config, rng = self.config, np.random.default_rng((self.config.seed, number))
        factor = 1.0 if rng.random() < config.native else rng.uniform(*config.shrink)
        side = round(config.side * factor)
        fitting = [index for index, shape in enumerate(pictures.shapes) if min(shape) >= side]
        if not fitting:
            raise TrainingError(f"no picture has {side} pixels on its shorter side")
        picture = pictures[int(rng.choice(fitting))]
        top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        large = FACTOR * config.side
        record = np.zeros((), self.layout)
        record["small"], clean = degraded(crop, config.side, Mix(**config.degradations), rng)
        record["answer"] = teacher(record["small"])
        record["truth"] = imresize(crop, large / side, (large, large))
        record["known"] = factor
        record["clean"] = clean
        return record


def main() -> None:
    parser = argparse.ArgumentParser("models.training.teacher")
    parser.add_argument("config", type=Path, help="a config with a table recipe.lessons")
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--teacher", type=Path, required=True, help="Real-ESRGAN's public weights")
    parser.add_argument("--cache", type=Path, required=True, help="where they are kept")
    parser.add_argument("--count", type=int, required=True, help="of lessons, with those that are there")
    arguments = parser.parse_args()
    config = tomllib.loads(arguments.config.read_text(encoding="utf-8"))["recipe"]["lessons"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lessons = Lessons(arguments.cache, LessonsConfig(**config))
    pictures = Pictures(arguments.data, arguments.cache)
    lessons.fill(pictures, load_teacher(arguments.teacher, device), arguments.count)
    print(lessons.file)


if __name__ == "__main__":
    main()
