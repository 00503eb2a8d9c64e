"""Upscalers against bicubic and Lanczos on folders of pictures, by the benchmarks' protocol.

A picture is cut to whole small pixels, made small by the standard bicubic resize, enlarged, rounded to uint8
and compared in luma with ceil(scale) pixels shaved off each border. Small pictures may be damaged first, as
those are that people have; the distance in a feature network's eyes then tells more than decibels do.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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
from models.features import load_features, perceptual_distance
from models.imresize import imresize
from models.layers.placement import exact
from models.training.degradations import jpeg, sensor_noise, webp
from models.upscaling.upscaler import steps

Picture = npt.NDArray[np.uint8]
Enlarge = Callable[[Picture, Fraction, tuple[int, int]], Picture]
Distance = Callable[[Picture, Picture], float]

SCALES = (1.5, 2.0, 2.7, 3.0, 3.3, 4.0)
DIGITS = {"psnr": 3, "ssim": 4, "distance": 4}
PREPARED = re.compile(r"_(hr|lr)_x\d$")  # some copies of Set5 carry its pairs beside the pictures


@dataclass(frozen=True)
class Damage:
    """What is done to small pictures before they are enlarged, in the order of the fields."""

    noise: float = 0.0  # of a sensor, as its deviation in mid-grey
    jpeg: int | None = None  # quality, and so on
    webp: int | None = None

    def __call__(self, small: Picture, seed: int) -> Picture:
        if self.noise:
            small = sensor_noise(small, self.noise, np.random.default_rng(seed))
        if self.jpeg is not None:
            small = jpeg(small, self.jpeg)
        return small if self.webp is None else webp(small, self.webp)

    def __str__(self) -> str:
        done = [f"noise {self.noise:g}"] if self.noise else []
        done += [f"JPEG {self.jpeg}"] if self.jpeg is not None else []
        done += [f"WebP {self.webp}"] if self.webp is not None else []
        return ", ".join(done) or "clean"


CLEAN = Damage()


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


def by_features(net: nn.Module, device: torch.device) -> Distance:
    net = net.to(device)

    @torch.inference_mode()
    def distance(one: Picture, other: Picture) -> float:
        images = (
            torch.tensor(picture, device=device).permute(2, 0, 1)[None].float() / 255
            for picture in (one, other)
        )
        return float(perceptual_distance(*(net(image) for image in images)))

    return distance


def compare(
    enlarge: Enlarge, files: Iterable[Path], scale: Fraction, damage: Damage, distance: Distance | None
) -> dict[str, float]:
    """Means over `files`."""
    scores = []
    for number, path in enumerate(files):
        picture = np.asarray(Image.open(path).convert("RGB"))
        small, truth = pair(picture, scale)
        answer = enlarge(damage(small, number), scale, (truth.shape[0], truth.shape[1]))
        border = math.ceil(scale)
        one, other = (shave(luma(pixels), border) for pixels in (answer, truth))
        score = {"psnr": psnr(one, other), "ssim": ssim(one, other)}
        scores.append(score | ({"distance": distance(answer, truth)} if distance else {}))
    return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}


def rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None  # JSON has no infinity


def evaluate_upscale(
    data: Mapping[str, Path],
    models: Iterable[str] | None = None,
    scales: Iterable[float] = SCALES,
    out: Path | None = None,
    device: str | None = None,
    limit: int | None = None,
    networks: Mapping[str, nn.Module] | None = None,
    damage: Damage = CLEAN,
    features: Path | None = None,
) -> dict[str, Any]:
    """PSNR and SSIM by picture set, scale and method; with `out`, also as `out`.json and `out`.md.

    `models` are names of the manifest (by default all installed upscalers), `networks` are judged besides
    them, `limit` takes the first pictures of each set alone. `features` is the file of a feature network, in
    whose eyes the distance is measured too.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if models is None:
        models = [entry.name for entry in manifest.installed().values() if entry.task == "upscale"]
    methods: dict[str, Enlarge] = {"bicubic": bicubic, "lanczos": lanczos}
    methods |= {name: by_network(manifest.load(name), where) for name in models}
    methods |= {name: by_network(net, where) for name, net in (networks or {}).items()}
    distance = by_features(load_features(features), where) if features else None
    rows = []
    for name, folder in data.items():
        files = pictures_in(folder)[:limit]
        for scale in scales:
            for method, enlarge in methods.items():
                scores = compare(enlarge, files, exact(scale), damage, distance)
                row = {"set": name, "pictures": len(files), "scale": scale, "method": method}
                rows.append(row | {key: rounded(value, DIGITS[key]) for key, value in scores.items()})
    protocol = "PSNR and SSIM of luma, ceil(scale) pixels shaved"
    if features:
        protocol += f"; perceptual distance by {features.stem}"
    answer = {"protocol": protocol, "small pictures": str(damage), "rows": rows}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_name(out.name + ".json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
        out.with_name(out.name + ".md").write_text(as_markdown(answer), encoding="utf-8")
    return answer


def as_markdown(answer: dict[str, Any]) -> str:
    """A line a set and scale, a column a method, PSNR / SSIM (/ distance) in each cell."""
    methods = list(dict.fromkeys(row["method"] for row in answer["rows"]))
    lines: dict[tuple[str, float], dict[str, str]] = {}
    for row in answer["rows"]:
        decibels = "equal" if row["psnr"] is None else f"{row['psnr']:.2f}"
        cell = f"{decibels} / {row['ssim']:.4f}"
        cell += f" / {row['distance']:.3f}" if "distance" in row else ""
        lines.setdefault((row["set"], row["scale"]), {})[row["method"]] = cell
    head = [f"| set | scale | {' | '.join(methods)} |", "| --- " * (len(methods) + 2) + "|"]
    body = [
        f"| {name} | x{scale:g} | {' | '.join(cells[method] for method in methods)} |"
        for (name, scale), cells in lines.items()
    ]
    return "\n".join([*head, *body]) + "\n"
