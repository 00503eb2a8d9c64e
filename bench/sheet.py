"""A sheet of crops: bicubic, ours, the truth; of damaged pictures also what was given.

    python bench/sheet.py -o docs/upscaling.png 2.7:lighthouse.png:260:20 4:parrots.png:200:300
    python bench/sheet.py -o sheet.jpg --model meta-sr-small --model meta-sr-photo 3:parrots.png:200:300:75

Each crop is FACTOR:PICTURE:TOP:LEFT, in pixels of the truth, and JPEG's quality where it is to be damaged.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from PIL import Image, ImageDraw

import models
from models import manifest
from models.evaluation.upscale import Damage, Enlarge, Picture, bicubic, by_network, pair
from models.imresize import imresize
from models.training.teacher import FACTOR, load_teacher

SIDE, ZOOM, GAP, HEAD = 96, 2, 6, 16
MARGIN = 48  # around a crop, in pixels of the truth: what networks see of the picture beyond it
CPU = torch.device("cpu")


def nearest(small: Picture, scale: Fraction, size: tuple[int, int]) -> Picture:
    rows, columns = (np.arange(side) * scale.denominator // scale.numerator for side in size)
    return small[rows][:, columns]


def by_teacher(answer: Callable[[Picture], Picture]) -> Enlarge:
    """Four times larger, then made smaller."""
    return lambda small, scale, size: imresize(answer(small), float(scale / FACTOR), size)


def crops(spec: str, methods: dict[str, Enlarge]) -> dict[str, Picture]:
    factor, path, top, left, *quality = spec.split(":")
    start = [max(0, int(side) - MARGIN) for side in (top, left)]
    picture = np.asarray(Image.open(path).convert("RGB"))
    part = picture[start[0] : int(top) + SIDE + MARGIN, start[1] : int(left) + SIDE + MARGIN]
    scale = Fraction(factor)
    small, truth = pair(part, scale)
    shown = {"bicubic": bicubic, **methods}
    if quality:
        small = Damage(jpeg=int(quality[0]))(small, 0)
        shown = {f"given, JPEG {quality[0]}": nearest, **shown}
    size = (truth.shape[0], truth.shape[1])
    down, right = int(top) - start[0], int(left) - start[1]
    window = np.s_[down : down + SIDE, right : right + SIDE]
    answers = {name: enlarge(small, scale, size) for name, enlarge in shown.items()} | {"truth": truth}
    return {f"x{factor} {name}": answer[window] for name, answer in answers.items()}


def sheet(specs: list[str], methods: dict[str, Enlarge]) -> Image.Image:
    rows = [crops(spec, methods) for spec in specs]
    side = SIDE * ZOOM
    width = max(len(row) for row in rows) * (side + GAP) - GAP
    canvas = Image.new("RGB", (width, len(rows) * (side + HEAD + GAP) - GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for number, row in enumerate(rows):
        top = number * (side + HEAD + GAP)
        for column, (title, crop) in enumerate(row.items()):
            left = column * (side + GAP)
            draw.text((left, top + 2), title, fill="black")
            # Whole pixels, so that the sheet shows what is there.
            shown = Image.fromarray(crop).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(shown, (left, top + HEAD))
    return canvas


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("crops", nargs="+", metavar="FACTOR:PICTURE:TOP:LEFT[:QUALITY]")
    parser.add_argument("--model", action="append", help="may be repeated; default: the default upscaler")
    parser.add_argument("--teacher", type=Path, help="Real-ESRGAN's weights, to show its answers too")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    names = arguments.model or [manifest.default_model("upscale", "cpu")]
    methods = {name: by_network(models.load(name), CPU) for name in names}
    if arguments.teacher:
        methods["teacher"] = by_teacher(load_teacher(arguments.teacher, CPU))
    sheet(arguments.crops, methods).save(arguments.output, quality=88)
