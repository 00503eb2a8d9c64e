"""The command line of judging, shared by `python -m models.evaluation` and `retouch evaluate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.evaluation import inpaint
from models.evaluation.upscale import SCALES, Damage, as_markdown, evaluate_upscale
from models.manifest import WeightsError


def build_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(program)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    upscale = tasks.add_parser("upscale", help="PSNR and SSIM of upscalers, beside bicubic and Lanczos")
    upscale.add_argument("folders", type=Path, nargs="+", help="folders of PNG pictures: Set5, Set14 ...")
    upscale.add_argument("--model", action="append", help="may be repeated; default: all installed")
    upscale.add_argument("--scale", type=float, action="append", help=f"may be repeated; default: {SCALES}")
    upscale.add_argument("--noise", type=float, default=0.0, help="deviation of noise in the small pictures")
    upscale.add_argument("--jpeg", type=int, metavar="QUALITY", help="of the small pictures, saved as JPEG")
    upscale.add_argument("--webp", type=int, metavar="QUALITY", help="of the small pictures, saved as WebP")
    upscale.add_argument("--features", type=Path, help="feature network, for the perceptual distance")
    upscale.add_argument("--limit", type=int, help="the first pictures of each folder alone")
    upscale.add_argument("--device", help="default: a GPU if there is one")
    upscale.add_argument("-o", "--output", type=Path, help="also write OUTPUT.json and OUTPUT.md")
    fills = tasks.add_parser("inpaint", help="fills against what was there, beside OpenCV's methods")
    fills.add_argument("folder", type=Path, help="holds images/ and masks/ with PNGs of the same names")
    fills.add_argument("--model", action="append", help="may be repeated; default: all installed")
    fills.add_argument("--features", type=Path, help="feature network, for the perceptual distance")
    fills.add_argument("--limit", type=int, help="the first pictures alone")
    fills.add_argument("--device", help="default: a GPU if there is one")
    fills.add_argument("-o", "--output", type=Path, help="also write OUTPUT.json, .md and .jpg")
    return parser


def main(argv: list[str] | None = None, program: str = "models.evaluation") -> int:
    arguments = build_parser(program).parse_args(argv)
    try:
        return judge(arguments)
    except (WeightsError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
    except KeyError as error:  # an unknown model, said in full
        print(f"{program}: {error.args[0]}", file=sys.stderr)
    return 1


def judge(arguments: argparse.Namespace) -> int:
    if arguments.task == "inpaint":
        print(inpaint_table(arguments), end="")
        return 0
    answer = evaluate_upscale(
        {folder.name: folder for folder in arguments.folders},
        arguments.model,
        arguments.scale or SCALES,
        out=arguments.output,
        device=arguments.device,
        limit=arguments.limit,
        damage=Damage(arguments.noise, arguments.jpeg, arguments.webp),
        features=arguments.features,
    )
    print(as_markdown(answer), end="")
    return 0


def inpaint_table(arguments: argparse.Namespace) -> str:
    answer = inpaint.evaluate_inpaint(
        arguments.folder,
        arguments.model,
        arguments.features,
        out=arguments.output,
        device=arguments.device,
        limit=arguments.limit,
    )
    return inpaint.as_markdown(answer)
