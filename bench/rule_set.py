"""A folder of 24 photographs with repetition or long lines, and of masks, to judge fills by.

    python bench/rule_set.py PHOTOGRAPHS -o FOLDER
    retouch evaluate inpaint FOLDER --model guided-patchmatch

The photographs are those among PHOTOGRAPHS that are held out of training, wherever they lie; the holes come
from a seed. Of each kind of scene there are as many with even numbers, to choose by, as with odd ones, to
report.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from PIL import Image, ImageDraw

from models.training.masks import Mask, blob
from models.training.pictures import DIGITS, HELD_OUT, SUFFIXES, digest

SIDE, STEP = 512, 16  # pictures are cut to so many pixels a side at most, and to a multiple of so many
SEED = 23
LEAST, MOST = 0.04, 0.16  # share of the picture that a hole takes


def strip(rng: np.random.Generator, height: int, width: int) -> Mask:
    """A band across the middle, in any direction, two thirds of the picture long."""
    canvas = Image.new("1", (width, height))
    angle = rng.uniform(0, math.pi)
    row, column = height * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6)
    across, down = (min(height, width) / 3 * turn(angle) for turn in (math.cos, math.sin))
    ends = (column - across, row - down, column + across, row + down)
    ImageDraw.Draw(canvas).line(ends, fill=1, width=int(rng.uniform(0.08, 0.16) * min(height, width)))
    return np.array(canvas, np.uint8)


def hole(number: int, height: int, width: int) -> Mask:
    rng = np.random.default_rng((SEED, number))
    while True:
        mask = strip(rng, height, width) if number // 2 % 2 else blob(rng, height, width, 0.8)
        if LEAST < mask.mean() < MOST:
            return mask


def middle(picture: Image.Image) -> Image.Image:
    width, height = (min(SIDE, side) // STEP * STEP for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    for name in ("images", "masks"):
        (asked.output / name).mkdir(parents=True)
    files = [path for path in asked.photographs.iterdir() if path.suffix.lower() in SUFFIXES]
    found = {digest(path)[:DIGITS]: path for path in files}
    for number, name in enumerate(HELD_OUT):
        picture = middle(Image.open(found[name]).convert("RGB"))
        picture.save(asked.output / f"images/{number:02}.png")
        mask = hole(number, picture.height, picture.width)
        Image.fromarray(mask * 255).save(asked.output / f"masks/{number:02}.png")


if __name__ == "__main__":
    main()
