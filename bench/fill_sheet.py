"""A sheet of fills by `retouch inpaint`: what was given above, the fill below.

One hole and several sketches, each a line of X,Y points; or several holes of a large picture, each shown
with as much round it as it is wide:

    python bench/fill_sheet.py -o docs/sketches.jpg lighthouse.png --hole 160:160:192:192 \\
        --sketch "230,150 224,370" --sketch "150,200 256,300 362,200"
    python bench/fill_sheet.py -o docs/large.jpg large.jpg --hole 700:600:300:300 --hole 1100:2460:900:180
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

CELL, GAP, MARGIN = 300, 6, 0.5
Box = tuple[int, int, int, int]


def box_of(spec: str) -> Box:
    """left, top, right, bottom of TOP:LEFT:HEIGHT:WIDTH."""
    top, left, height, width = map(int, spec.split(":"))
    return left, top, left + width, top + height


def drawn(
    lines: str, size: tuple[int, int], colour: str = "white", base: Image.Image | None = None
) -> Image.Image:
    """The lines, parted by semicolons, on black or on `base`."""
    canvas = base.copy() if base else Image.new("L", size)
    for line in lines.split(";"):
        points = [tuple(map(float, point.split(","))) for point in line.split()]
        ImageDraw.Draw(canvas).line(points, fill=colour, width=2)
    return canvas


def fill(picture: Path, mask: Path, sketch: Path | None, model: str | None) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "filled.png"
        command = [sys.executable, "-m", "service.cli", "inpaint", str(picture), str(mask), "-o", str(out)]
        command += ["--sketch", str(sketch)] if sketch else []
        subprocess.run(command + (["--model", model] if model else []), check=True)
        return Image.open(out).convert("RGB")


def around(box: Box, size: tuple[int, int]) -> Box:
    """A square about the box with a margin, inside the picture where that can be."""
    side = int((1 + 2 * MARGIN) * max(box[2] - box[0], box[3] - box[1]))
    left = max(0, min((box[0] + box[2] - side) // 2, size[0] - side))
    top = max(0, min((box[1] + box[3] - side) // 2, size[1] - side))
    return left, top, left + side, top + side


def sheet(columns: list[tuple[Image.Image, Image.Image]]) -> Image.Image:
    canvas = Image.new("RGB", (len(columns) * (CELL + GAP) - GAP, 2 * CELL + GAP), "white")
    for at, pair in enumerate(columns):
        for row, cell in enumerate(pair):
            small = cell.resize((CELL, CELL), Image.Resampling.LANCZOS)
            canvas.paste(small, (at * (CELL + GAP), row * (CELL + GAP)))
    return canvas


def columns(
    picture: Path, holes: list[Box], sketches: list[str], model: str | None
) -> list[tuple[Image.Image, Image.Image]]:
    photograph = Image.open(picture).convert("RGB")
    hole = Image.new("L", photograph.size)
    for box in holes:
        ImageDraw.Draw(hole).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    given = Image.composite(Image.new("RGB", photograph.size, "white"), photograph, hole)
    with tempfile.TemporaryDirectory() as folder:
        mask, sketch = Path(folder) / "mask.png", Path(folder) / "sketch.png"
        hole.save(mask)
        plain = fill(picture, mask, None, model)
        views = [around(box, photograph.size) for box in holes]
        pairs = [(given.crop(view), plain.crop(view)) for view in views]
        for lines in sketches:
            drawn(lines, photograph.size).save(sketch)
            shown = Image.composite(drawn(lines, photograph.size, "black", given), given, hole)
            pairs.append((shown.crop(views[0]), fill(picture, mask, sketch, model).crop(views[0])))
    return pairs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument(
        "--hole", type=box_of, action="append", required=True, metavar="TOP:LEFT:HEIGHT:WIDTH"
    )
    parser.add_argument("--sketch", action="append", default=[], metavar='"X,Y X,Y ...; X,Y ..."')
    parser.add_argument("--model")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    cells = columns(arguments.picture, arguments.hole, arguments.sketch, arguments.model)
    sheet(cells).save(arguments.output, quality=90)
