"""The command line of training, shared by `python -m models.training` and `retouch train`."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from models.training.configure import train
from models.training.errors import TrainingError


def build_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(program, description="Train a network as a config says.")
    parser.add_argument("config", type=Path, help="one of configs/, or your own")
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--minutes", type=float, help="instead of the config's budget")
    parser.add_argument(
        "--leg", type=float, default=math.inf, metavar="MINUTES", help="stop after so many, to go on later"
    )
    parser.add_argument("-o", "--output", type=Path, help="default: runs/ and the config's name")
    parser.add_argument("--fresh", action="store_true", help="start over instead of resuming")
    parser.add_argument(
        "--held-out", type=Path, help="pictures never to train on; default: the folder eval beside the data"
    )
    parser.add_argument("--features", type=Path, help="pretrained feature network, for perceptual losses")
    parser.add_argument("--start", help="an installed model whose weights a new run begins with")
    return parser


def main(argv: list[str] | None = None, program: str = "models.training") -> int:
    arguments = build_parser(program).parse_args(argv)
    try:
        weights = train(
            arguments.config,
            arguments.data,
            arguments.minutes,
            arguments.output,
            resume=not arguments.fresh,
            held_out=arguments.held_out,
            features=arguments.features,
            start=arguments.start,
            leg=arguments.leg,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except (TrainingError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    print(weights)
    print(f"next: RETOUCH_WEIGHTS_DIR={weights.parent} retouch serve", file=sys.stderr)
    return 0
