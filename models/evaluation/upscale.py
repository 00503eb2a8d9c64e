"""Upscalers against bicubic and Lanczos on folders of pictures, by the benchmarks' protocol.

A picture is cut to whole small pixels, made small by the standard bicubic resize, enlarged, rounded to uint8
and compared in luma with ceil(scale) pixels shaved off each border.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from models import manifest
from models.evaluation.metrics import luma, psnr, shave, ssim
from models.imresize import imresize
from models.layers.placement import exact
from models.upscaling.upscaler import steps

Picture = npt.NDArray[np.uint8]
Enlarge = Callable[[Picture, Fraction, tuple[int, int]], Picture]

SCALES = (1.5, 2.0, 2.7, 3.0, 3.3, 4.0)
PREPARED = re.compile(r"_(hr|lr)_x\d$")  # some copies of Set5 carry its pairs beside the pictures


def bicubic(small: Picture, scale: Fraction, size: tuple[int, int]) -> Picture:
    return imresize(small, float(scale), size)


def lanczos(small: Picture, scale: Fraction, size: tuple[int, int]) -> Picture:
    height, width = size
    box = (0.0, 0.0, float(width / scale), float(height / scale))  # keeps the scale: no stretching to size
    enlarged = Image.fromarray(small).resize((width, height), Image.Resampling.LANCZOS, box=box)
    return np.asarray(enlarged)


def by_network(net: nn.Module, device: torch.device) -> Enlarge:
    net = net.to(device).eval()

    @torch.inference_mode()
    def once(small: Picture, factors: tuple[Fraction, Fraction], size: tuple[int, int]) -> Picture:
        image = torch.tensor(small, device=device).permute(2, 0, 1)[None].float() / 255
        features = net.features(image)  # type: ignore[operator]
        answer = net.render(features, factors, region=(0, 0, *size))  # type: ignore[operator]
        answer = (answer[0].float().clamp(0, 1) * 255 + 0.5).byte()
        return np.ascontiguousarray(answer.permute(1, 2, 0).cpu().numpy())

    def enlarge(small: Picture, scale: Fraction, size: tuple[int, int]) -> Picture:
        most = int(net.one_step)  # type: ignore[arg-type]
        for factors, out in steps((small.shape[0], small.shape[1]), (scale, scale), size, most):
            small = once(small, factors, out)
        return small

    return enlarge


def pair(picture: Picture, scale: Fraction) -> tuple[Picture, Picture]:
    """The small picture and the truth that it is to be enlarged to."""
    small = [int(side / scale) for side in picture.shape[:2]]
    height, width = (int(side * scale) for side in small)
    truth = picture[:height, :width]
    return imresize(truth, float(1 / scale), (small[0], small[1])), truth


def pictures_in(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.glob("*.png")) if not PREPARED.search(path.stem)]
    if not found:
        raise FileNotFoundError(f"no PNG pictures in {folder}")
    return found


def compare(enlarge: Enlarge, files: Iterable[Path], scale: Fraction) -> tuple[float, float]:
    """Mean PSNR and SSIM over `files`."""
    scores = []
    for path in files:
        picture = np.asarray(Image.open(path).convert("RGB"))
        small, truth = pair(picture, scale)
        answer = enlarge(small, scale, (truth.shape[0], truth.shape[1]))
        border = math.ceil(scale)
        one, other = (shave(luma(pixels), border) for pixels in (answer, truth))
        scores.append((psnr(one, other), ssim(one, other)))
    decibels, likeness = np.mean(scores, axis=0)
    return float(decibels), float(likeness)


def evaluate_upscale(
    data: Mapping[str, Path],
    models: Iterable[str] | None = None,
    scales: Iterable[float] = SCALES,
    out: Path | None = None,
    device: str | None = None,
    limit: int | None = None,
    networks: Mapping[str, nn.Module] | None = None,
) -> dict[str, Any]:
    """PSNR and SSIM by picture set, scale and method; with `out`, also as `out`.json and `out`.md.

    `models` are names of the manifest (by default all installed upscalers), `networks` are judged besides
    them, `limit` takes the first pictures of each set alone.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if models is None:
        models = [entry.name for entry in manifest.installed().values() if entry.task == "upscale"]
    methods: dict[str, Enlarge] = {"bicubic": bicubic, "lanczos": lanczos}
    methods |= {name: by_network(manifest.load(name), where) for name in models}
    methods |= {name: by_network(net, where) for name, net in (networks or {}).items()}
    rows = []
    for name, folder in data.items():
        files = pictures_in(folder)[:limit]
        for scale in scales:
            for method, enlarge in methods.items():
                decibels, likeness = compare(enlarge, files, exact(scale))
                row = {"set": name, "pictures": len(files), "scale": scale, "method": method}
                rows.append(row | {"psnr": round(decibels, 3), "ssim": round(likeness, 4)})
    answer = {"protocol": "PSNR and SSIM of luma, ceil(scale) pixels shaved", "rows": rows}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_name(out.name + ".json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
        out.with_name(out.name + ".md").write_text(as_markdown(answer), encoding="utf-8")
    return answer


def as_markdown(answer: dict[str, Any]) -> str:
    """A line a set and scale, a column a method, PSNR / SSIM in each cell."""
    methods = list(dict.fromkeys(row["method"] for row in answer["rows"]))
    lines: dict[tuple[str, float], dict[str, str]] = {}
    for row in answer["rows"]:
        cell = f"{row['psnr']:.2f} / {row['ssim']:.4f}"
        lines.setdefault((row["set"], row["scale"]), {})[row["method"]] = cell
    head = [f"| set | scale | {' | '.join(methods)} |", "| --- " * (len(methods) + 2) + "|"]
    body = [
        f"| {name} | x{scale:g} | {' | '.join(cells[method] for method in methods)} |"
        for (name, scale), cells in lines.items()
    ]
    return "\n".join([*head, *body]) + "\n"
