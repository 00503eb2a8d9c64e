"""`python -m models.training CONFIG --data DIR`: training where nothing of the service is installed."""

import argparse
from pathlib import Path

from models.training import train

parser = argparse.ArgumentParser("models.training")
parser.add_argument("config", type=Path)
parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
parser.add_argument("--minutes", type=float, help="overrides the config's budget")
parser.add_argument("--out", type=Path, help="default: runs/ and the config's name")
parser.add_argument("--fresh", action="store_true", help="start over instead of resuming")
parser.add_argument("--held-out", type=Path, help="pictures never to train on; default: eval beside the data")
parser.add_argument("--features", type=Path, help="pretrained feature network, for perceptual losses")
parser.add_argument("--start", help="an installed model whose weights a new run begins with")
arguments = parser.parse_args()
weights = train(
    arguments.config,
    arguments.data,
    arguments.minutes,
    arguments.out,
    resume=not arguments.fresh,
    held_out=arguments.held_out,
    features=arguments.features,
    start=arguments.start,
)
print(weights)
