"""Public checkpoints of ESRGAN and Real-ESRGAN's RRDBNet, in the three layouts that they have come in.

The first counts all modules in one list (`model.0`, `model.1.sub.0.RDB1.conv1.0`): a doubling is three of
them. The second names them (`RRDB_trunk.0.RDB1.conv1`, `upconv1`), and so does the one that is used now
(`body.0.rdb1.conv1`, `conv_up1`), which alone may begin by unshuffling.
"""

from __future__ import annotations

import math
import re
from typing import Any

from torch import nn

from models.checkpoints.importer import CheckpointError, Importer, State, register, strip_prefix

LISTED = re.compile(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.(\w+)")
DENSE = re.compile(r"(?:RRDB_trunk|body)\.(\d+)\.(?:RDB|rdb)(\d)\.conv(\d)\.(\w+)")
UP = re.compile(r"(?:upconv|conv_up)(\d)\.(\w+)")
OURS = re.compile(r"blocks\.(\d+)\.dense\.(\d)\.layers\.(\d)\.(\w+)")
NAMES = {
    "conv_first": "enter",
    "conv_body": "exit",
    "trunk_conv": "exit",
    "conv_hr": "fine",
    "HRconv": "fine",
    "conv_last": "leave",
}
PUBLIC = {"enter": "conv_first", "exit": "conv_body", "fine": "conv_hr", "leave": "conv_last"}


def our_key(key: str) -> str:
    if dense := LISTED.fullmatch(key) or DENSE.fullmatch(key):
        block, part, layer, leaf = dense.groups()
        return f"blocks.{block}.dense.{int(part) - 1}.layers.{int(layer) - 1}.{leaf}"
    if up := UP.fullmatch(key):
        return f"up.{int(up[1]) - 1}.{up[2]}"
    module, _, leaf = key.rpartition(".")
    return f"{NAMES[module]}.{leaf}" if module in NAMES else key


def public_key(key: str) -> str:
    if ours := OURS.fullmatch(key):
        block, part, layer, leaf = ours.groups()
        return f"body.{block}.rdb{int(part) + 1}.conv{int(layer) + 1}.{leaf}"
    module, _, leaf = key.rpartition(".")
    if up := re.fullmatch(r"up\.(\d)", module):
        return f"conv_up{int(up[1]) + 1}.{leaf}"
    return f"{PUBLIC[module]}.{leaf}"


def listed_names(state: State) -> dict[str, str]:
    """The modules that the first layout counts, by our names."""
    numbers = sorted({int(match[1]) for key in state if (match := re.fullmatch(r"model\.(\d+)\.\w+", key))})
    if len(numbers) < 3:
        raise CheckpointError("esrgan: the checkpoint counts too few layers")
    first, *ups, fine, last = numbers
    names = {f"model.{number}": f"up.{index}" for index, number in enumerate(ups)}
    trunk = max(
        (int(match[1]) for key in state if (match := re.fullmatch(r"model\.1\.sub\.(\d+)\.\w+", key))),
        default=0,
    )
    return names | {
        f"model.{first}": "enter",
        f"model.1.sub.{trunk}": "exit",
        f"model.{fine}": "fine",
        f"model.{last}": "leave",
    }


def renamed(state: State) -> State:
    if "model.0.weight" not in state:
        return {our_key(key): value for key, value in state.items()}
    names, answer = listed_names(state), {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        answer[f"{names[module]}.{leaf}" if module in names else our_key(key)] = value
    return answer


def convert(state: State) -> tuple[dict[str, Any], State]:
    ours = renamed(strip_prefix(state, "module.", "generator.", "netG."))
    first, dense = ours["enter.weight"], ours["blocks.0.dense.0.layers.0.weight"]
    blocks = 1 + max(int(match[1]) for key in ours if (match := OURS.fullmatch(key)))
    doublings = len([key for key in ours if re.fullmatch(r"up\.\d+\.weight", key)])
    unshuffle = math.isqrt(first.shape[1] // 3)
    if first.shape[1] != 3 * unshuffle**2 or unshuffle not in (1, 2, 4) or 2**doublings < unshuffle:
        raise CheckpointError(
            f"esrgan: {first.shape[1]} planes enter, which is no picture, unshuffled or not"
        )
    arguments = {"channels": first.shape[0], "blocks": blocks, "growth": dense.shape[0]}
    return arguments | {"doublings": doublings, "unshuffle": unshuffle}, ours


def to_public(net: nn.Module) -> State:
    return {public_key(key): value for key, value in net.state_dict().items()}


register(
    Importer(
        "esrgan",
        recognises=lambda state: any(
            re.search(r"(body|RRDB_trunk|sub)\.0\.(rdb|RDB)1\.conv1\.(0\.)?weight$", key) for key in state
        ),
        convert=convert,
        to_public=to_public,
    )
)
