"""Two ways to bring one drawing to a large picture's size, compared on holes whose truth is known.

The present one enlarges the drawing by the default upscaler; HiFill's adds to the enlarged drawing the known
part's residuals, put together as an attention over the drawing says. Both compute the hole's box alone:

    python bench/large_holes.py --features vgg.safetensors -o sheet.jpg --side 2048 --side 4096 picture.jpg

The attention is HiFill's formula over features of a pretrained network, for want of weights of its own. A row
of the sheet is a picture at a side: what was drawn, enlarged, with residuals, the truth; each is the hole's
middle at full size.
"""

from __future__ import annotations

import argparse
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

import models
from models.evaluation.fills import gradient_ratio
from models.evaluation.metrics import psnr
from models.features import load_features, perceptual_distance
from models.inpainting.hifill import CELL
from models.layers.patch_transfer import aggregated, attention
from models.layers.tensorflow_resize import bilinear
from models.upscaling.upscaler import steps

DRAWN = 512  # the side at which the hole is drawn
SHOWN, GAP = 320, 6
SHARPNESS = 10.0  # length of a query, whose cosines then span enough of the softmax


def square(path: Path, side: int) -> Tensor:
    picture = ImageOps.fit(Image.open(path).convert("RGB"), (side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def hole_of(side: int) -> Tensor:
    """A third of the picture high and wide, on whole cells, in the middle."""
    mask = torch.zeros(1, 1, side, side)
    top = side // DRAWN * (DRAWN // 3 // CELL * CELL)
    mask[..., top:-top, top:-top] = 1
    return mask


def enlarged(net: Any, drawing: Tensor, multiple: int, top: int) -> Tensor:
    """The box from (top, top) to as much before the end, by the upscaler; cut with what it depends on."""
    margin = net.receptive_field
    crop = drawing[..., top - margin : margin - top, top - margin : margin - top]
    whole = (crop.shape[-2], crop.shape[-1])
    factor = Fraction(multiple)
    out = (whole[0] * multiple, whole[1] * multiple)
    for factors, _ in steps(whole, (factor, factor), out):
        crop = net(crop, factors)
    cut = margin * multiple
    return crop[..., cut:-cut, cut:-cut]


def with_residuals(
    features: Any, drawing: Tensor, image: Tensor, mask: Tensor, multiple: int, top: int
) -> Tensor:
    taps = features(drawing)
    eighth = [F.adaptive_avg_pool2d(tap, drawing.shape[-1] // 8) for tap in taps[-2:]]
    found = torch.cat([F.normalize(tap, dim=1) for tap in eighth], 1)
    found = found - found.mean((2, 3), keepdim=True)
    scale = F.unfold(found[..., ::2, ::2], 3, padding=1).square().sum(1).sqrt().mean()
    weights = attention(found * SHARPNESS / scale, F.max_pool2d(mask, multiple))
    size, cell = (image.shape[-2], image.shape[-1]), CELL * multiple
    residual = (image - bilinear(F.avg_pool2d(image, multiple), size)) * (1 - mask)
    asked = F.max_pool2d(mask, cell)[0, 0].flatten().nonzero()[:, 0]
    patches = aggregated(residual, weights[:, asked], cell)[0]
    count = round(len(asked) ** 0.5)
    tiles = patches.view(count, count, 3, cell, cell).permute(2, 0, 3, 1, 4).reshape(1, 3, count * cell, -1)
    start = top * multiple
    return bilinear(drawing, size)[..., start:-start, start:-start] + tiles


def pixels(picture: Tensor) -> Any:
    return (picture[0].clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()


def judged(features: Any, box: Tensor, truth: Tensor) -> str:
    hole = np.ones(truth.shape[-2:], bool)
    ours, theirs = pixels(box), pixels(truth)
    parts = [
        [picture[..., row : row + 256, column : column + 256] for row in (0, 256) for column in (0, 256)]
        for picture in (box.clamp(0, 1), truth)
    ]
    perceptual = torch.stack(
        [perceptual_distance(features(one), features(other)) for one, other in zip(*parts, strict=True)]
    ).mean()
    return f"{psnr(ours, theirs):.2f} | {gradient_ratio(ours, theirs, hole):.2f} | {float(perceptual):.3f}"


@torch.inference_mode()
def compare(path: Path, side: int, features: Any) -> list[Tensor]:
    multiple = side // DRAWN
    image, mask = square(path, side), hole_of(side)
    small, small_mask = F.avg_pool2d(image, multiple), F.max_pool2d(mask, multiple)
    drawing = models.load("guided-patchmatch")(small * (1 - small_mask), small_mask).clamp(0, 1)
    drawing = drawing * small_mask + small * (1 - small_mask)
    top = int(small_mask[0, 0].amax(1).nonzero()[0])
    start = top * multiple
    truth = image[..., start:-start, start:-start]
    upscaler = models.load("meta-sr-small")
    ways = {
        "enlarged": lambda: enlarged(upscaler, drawing, multiple, top),
        "with residuals": lambda: with_residuals(features, drawing, image, mask, multiple, top),
    }
    boxes = [F.interpolate(drawing[..., top:-top, top:-top], scale_factor=float(multiple))]
    for name, way in ways.items():
        started = time.perf_counter()
        boxes.append(way())
        seconds = time.perf_counter() - started
        print(f"| {path.stem} | {side} | {name} | {seconds:.1f} | {judged(features, boxes[-1], truth)} |")
    return [*boxes, truth]


def row(boxes: list[Tensor]) -> Tensor:
    cells = []
    for box in boxes:
        middle = (box.shape[-1] - SHOWN) // 2
        cells += [box[..., middle : middle + SHOWN, middle : middle + SHOWN], torch.ones(1, 3, SHOWN, GAP)]
    return torch.cat(cells[:-1], -1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--side", type=int, action="append", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    network = load_features(asked.features)
    print("| picture | side | way | seconds | PSNR | gradient (1 is ideal) | perceptual |")
    print("| --- " * 7 + "|")
    rows: list[Tensor] = []
    for path in asked.pictures:
        for side in asked.side:
            found = row(compare(path, side, network))
            rows += [found, torch.ones(1, 3, GAP, found.shape[-1])]
    if asked.output:
        Image.fromarray(pixels(torch.cat(rows[:-1], -2))).save(asked.output, quality=88)
