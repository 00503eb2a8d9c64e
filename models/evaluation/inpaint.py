"""How good fills are: against the picture that was there, beside OpenCV's two classical methods."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models import manifest
from models.evaluation.fills import Hole, Pixels, gradient_ratio, l1_percent, line_error, patch_distance
from models.evaluation.metrics import luma, psnr, ssim
from models.features import load_features, perceptual_distance
from models.network import Network

Fill = Callable[[Pixels, Hole], Pixels]  # what stands outside the hole is not looked at

BANDS = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 1.0))
ALL = "all"
RADIUS = 3  # of OpenCV's methods
MEASURES = ("l1", "psnr", "ssim", "gradient", "lines", "patches", "perceptual")
PLACES = {"l1": 2, "psnr": 2, "gradient": 2, "lines": 1}  # behind the point; 3 for the others
THUMB = 256


def by_opencv(method: str) -> Fill:
    import cv2

    flag = cv2.INPAINT_TELEA if method == "telea" else cv2.INPAINT_NS

    def fill(picture: Pixels, hole: Hole) -> Pixels:
        return np.asarray(cv2.inpaint(picture, hole.astype(np.uint8) * 255, RADIUS, flag), np.uint8)

    return fill


def by_network(net: Network, device: torch.device) -> Fill:
    """The network on the whole picture, padded to a size that it takes, or made as small as it wants it."""
    net = net.to(device).eval()

    @torch.inference_mode()
    def fill(picture: Pixels, hole: Hole) -> Pixels:
        image = as_tensor(picture, device)
        image, mask = fitted(image, torch.from_numpy(hole)[None, None].float().to(device), net.sides.maximum)
        height, width = mask.shape[-2:]
        padding = (0, net.sides.round_up(width) - width, 0, net.sides.round_up(height) - height)
        image, mask = F.pad(image, padding, mode="replicate"), F.pad(mask, padding)
        answer = net(image * (1 - mask), mask)[..., :height, :width].float()
        if (height, width) != hole.shape:
            answer = F.interpolate(answer, hole.shape, mode="bicubic", align_corners=False)
        return np.asarray((answer[0].clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy())

    return fill


def fitted(image: Tensor, mask: Tensor, most: int | None) -> tuple[Tensor, Tensor]:
    """As small as serving makes a window: of a small pixel the known part is averaged, or it is missing."""
    longest = max(mask.shape[-2:])
    if most is None or longest <= most:
        return image, mask
    height, width = (max(1, round(side * most / longest)) for side in mask.shape[-2:])
    size = (height, width)
    known = F.adaptive_avg_pool2d(1 - mask, size)
    return F.adaptive_avg_pool2d(image * (1 - mask), size) / known.clamp_min(1e-6), (known < 1 - 1e-4).float()


def as_tensor(picture: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(picture.copy()).to(device).permute(2, 0, 1)[None].float() / 255


def pairs(folder: Path, limit: int | None = None) -> list[tuple[str, Pixels, Hole]]:
    """Pictures of `folder`/images with the mask of the same name in `folder`/masks (bright is the hole)."""
    found = []
    for path in sorted((folder / "images").glob("*.png"))[:limit]:
        mask = Image.open(folder / "masks" / path.name).convert("L")
        found.append((path.stem, np.asarray(Image.open(path).convert("RGB")), np.asarray(mask) > 127))
    if not found:
        raise FileNotFoundError(f"no PNG pictures in {folder / 'images'}")
    return found


def measure(
    fill: Pixels, truth: Pixels, hole: Hole, features: nn.Module | None, device: torch.device
) -> dict[str, float]:
    scores = {
        "l1": l1_percent(fill, truth, hole),
        "psnr": psnr(fill, truth),
        "ssim": ssim(luma(fill), luma(truth)),
        "gradient": gradient_ratio(fill, truth, hole),
        "lines": line_error(fill, truth, hole),
        "patches": patch_distance(fill, truth, hole),
    }
    if features is not None:
        with torch.inference_mode():
            both = (features(as_tensor(picture, device)) for picture in (fill, truth))
            scores["perceptual"] = float(perceptual_distance(*both))
    return scores


def evaluate_inpaint(
    folder: Path,
    models: Iterable[str] | None = None,
    features: Path | None = None,
    out: Path | None = None,
    device: str | None = None,
    limit: int | None = None,
    networks: Mapping[str, Network] | None = None,
) -> dict[str, Any]:
    """Every measure by method and band of hole share; with `out`, also as .json, .md and a contact sheet.

    `models` are names of the manifest (by default all installed inpainters), `networks` are judged besides
    them. Without `features` there is no perceptual distance.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    judge = load_features(features).to(where) if features else None
    if models is None:
        models = [entry.name for entry in manifest.installed().values() if entry.task == "inpaint"]
    methods: dict[str, Fill] = {"telea": by_opencv("telea"), "navier-stokes": by_opencv("navier-stokes")}
    methods |= {name: by_network(manifest.load(name), where) for name in models}
    methods |= {name: by_network(net, where) for name, net in (networks or {}).items()}
    pictures, rows, thumbs = pairs(folder, limit), [], []
    for name, truth, hole in pictures:
        strip = [np.where(hole[..., None], 255, truth).astype(np.uint8)]
        for method, fill in methods.items():
            answer = np.where(hole[..., None], fill(truth, hole), truth)
            strip.append(answer)
            scores = measure(answer, truth, hole, judge, where)
            rows.append({"picture": name, "method": method, "share": float(hole.mean())} | scores)
        thumbs.append(np.concatenate([thumb(picture) for picture in [*strip, truth]], 1))
    report: dict[str, Any] = {"pictures": len(pictures), "bands": by_band(rows, list(methods)), "rows": rows}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_name(out.name + ".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        out.with_name(out.name + ".md").write_text(as_markdown(report), encoding="utf-8")
        Image.fromarray(np.concatenate(thumbs)).save(out.with_name(out.name + ".jpg"), quality=88)
    return report


def thumb(picture: Pixels) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((THUMB, THUMB), Image.Resampling.LANCZOS))


def by_band(rows: list[dict[str, Any]], methods: list[str]) -> list[dict[str, Any]]:
    """Means over all pictures, then over those whose hole takes this or that share."""
    bands: list[tuple[str, float, float]] = [(ALL, 0.0, 1.0)]
    bands += [(f"{low:.0%} to {high:.0%}", low, high) for low, high in BANDS]
    answer = []
    for name, low, high in bands:
        for method in methods:
            inside = [row for row in rows if row["method"] == method and low <= row["share"] < high]
            if not inside:
                continue
            means = {
                key: round(float(np.mean([row[key] for row in inside])), 4)
                for key in MEASURES
                if key in inside[0]
            }
            answer.append({"holes": name, "pictures": len(inside), "method": method} | means)
    return answer


def as_markdown(answer: dict[str, Any]) -> str:
    """A line a band and method."""
    bands = answer["bands"]
    measures = [key for key in MEASURES if key in bands[0]]
    head = [f"| holes | pictures | method | {' | '.join(measures)} |", "| --- " * (len(measures) + 3) + "|"]
    body = [
        f"| {row['holes']} | {row['pictures']} | {row['method']} | "
        + " | ".join(f"{row[key]:.{PLACES.get(key, 3)}f}" for key in measures)
        + " |"
        for row in bands
    ]
    return "\n".join([*head, *body]) + "\n"
