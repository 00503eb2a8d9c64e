"""A sheet of crops: bicubic, ours, the truth.

    python bench/sheet.py -o docs/upscaling.png 2.7:lighthouse.png:260:20 4:parrots.png:200:300

Each crop is FACTOR:PICTURE:TOP:LEFT, in pixels of the truth.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from PIL import Image, ImageDraw

import models
from models import manifest
from models.evaluation.upscale import Picture, bicubic, by_network, pair

SIDE, ZOOM, GAP, HEAD = 96, 2, 6, 16


def crops(spec: str, network: torch.nn.Module) -> list[Picture]:
    factor, path, top, left = spec.split(":")
    scale = Fraction(factor)
    small, truth = pair(np.asarray(Image.open(path).convert("RGB")), scale)
    size = (truth.shape[0], truth.shape[1])
    ours = by_network(network, torch.device("cpu"))(small, scale, size)
    window = np.s_[int(top) : int(top) + SIDE, int(left) : int(left) + SIDE]
    return [picture[window] for picture in (bicubic(small, scale, size), ours, truth)]


def sheet(specs: list[str], model: str) -> Image.Image:
    network = models.load(model)
    side = SIDE * ZOOM
    canvas = Image.new("RGB", (3 * side + 2 * GAP, len(specs) * (side + HEAD + GAP) - GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for row, spec in enumerate(specs):
        top = row * (side + HEAD + GAP)
        factor = spec.partition(":")[0]
        for column, (title, crop) in enumerate(
            zip((f"x{factor} bicubic", f"x{factor} {model}", "truth"), crops(spec, network), strict=True)
        ):
            left = column * (side + GAP)
            draw.text((left, top + 2), title, fill="black")
            # Whole pixels, so that the sheet shows what is there.
            shown = Image.fromarray(crop).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(shown, (left, top + HEAD))
    return canvas


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("crops", nargs="+", metavar="FACTOR:PICTURE:TOP:LEFT")
    parser.add_argument("--model", default=manifest.default_model("upscale", "cpu"))
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    sheet(arguments.crops, arguments.model).save(arguments.output, quality=92)
