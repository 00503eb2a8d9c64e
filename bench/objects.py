"""What `POST /select` makes of clicks on objects: intersection over union with careful masks, click by click.

    python bench/objects.py FOLDER [-o SHEET.png]

FOLDER holds images/ and masks/ with PNGs of the same names (bright is the object), and clicks.json: for each
name the clicks in their order, `[column, row]`, and `[column, row, "not"]` on what is not of the object.
As on the page, a click adds what all clicks together propose, and one that takes away asks for what it is on;
of that goes what is not in the proposal of all.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# This file's own folder comes first otherwise, and in it `service` is another file.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.imaging.select import Hints, Point, grab

THUMB = 256
WRONG, LEFT_OUT = (230, 40, 40), (40, 90, 230)


def proposals(picture: npt.NDArray[np.uint8], clicks: list[Any]) -> Iterator[npt.NDArray[np.bool_]]:
    """The object's mask after each click."""
    mask = np.zeros(picture.shape[:2], bool)
    inside: list[Point] = []
    outside: list[Point] = []
    for column, row, *away in clicks:
        (outside if away else inside).append((column, row))
        together = grab(picture, Hints(inside, outside)) > 127
        if away:
            mask &= together | (grab(picture, Hints([(column, row)], inside)) <= 127)
        else:
            mask |= together
        yield mask.copy()


def overlap(mask: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def shown(
    picture: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]
) -> Image.Image:
    """The picture with what was taken wrongly in red, and what was left out in blue."""
    canvas = picture.astype(np.float32)
    for region, colour in ((mask & ~truth, WRONG), (truth & ~mask, LEFT_OUT)):
        canvas[region] = 0.3 * canvas[region] + 0.7 * np.array(colour)
    answer = Image.fromarray(canvas.astype(np.uint8))
    answer.thumbnail((THUMB, THUMB))
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="a sheet: first click, all clicks")
    asked = parser.parse_args()
    told = json.loads((asked.folder / "clicks.json").read_text(encoding="utf-8"))
    rows, tiles = [], []
    print("| picture | " + " | ".join(f"{number}" for number in (1, 2, 3, 4, 5)) + " | seconds |")
    print("| --- " * 7 + "|")
    for name, clicks in told.items():
        picture = np.asarray(Image.open(asked.folder / "images" / f"{name}.png").convert("RGB"))
        truth = np.asarray(Image.open(asked.folder / "masks" / f"{name}.png").convert("L")) > 127
        began = time.process_time()
        masks = list(proposals(picture, clicks))
        seconds = (time.process_time() - began) / len(clicks)
        scores = [overlap(mask, truth) for mask in masks]
        rows.append(scores + scores[-1:] * (5 - len(scores)))
        cells = [f"{score:.2f}" for score in scores] + [""] * (5 - len(scores))
        print(f"| {name} | {' | '.join(cells)} | {seconds:.2f} |", flush=True)
        tiles += [shown(picture, mask, truth) for mask in (masks[0], masks[-1])]
    for word, fold in (("mean", np.mean), ("median", np.median)):
        print(f"| {word} | " + " | ".join(f"{value:.2f}" for value in fold(np.array(rows), 0)) + " | |")
    if asked.output:
        across = 8
        sheet = Image.new("RGB", (across * THUMB, -(-len(tiles) // across) * THUMB))
        for index, tile in enumerate(tiles):
            sheet.paste(tile, (index % across * THUMB, index // across * THUMB))
        sheet.save(asked.output)


if __name__ == "__main__":
    main()
