"""Public checkpoints of learnable feature imputation: the running average of DeepPrivacy's generator.

Its weights are multiplied by factors when they are used; here they are once and for all. Older files number
the blocks in place of naming them by their size.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from models.checkpoints.importer import Importer, State, register, strip_prefix

BLOCK = re.compile(r"(encoder|decoder)\.basic_block(\d+)\.layers\.([03])\.(?:([\w.]+)\.)?(weight|bias)")
SKIP = re.compile(r"decoder\.skip_connection(\d+)\.(beta[01])")
PARTS = {None: "conv", "expected_value_updater.input_updater": "impute", "mask_updater": "update"}
# Stored and without a use: what the first layer would impute, older heads, the certainty of the answer.
UNUSED = r"from_rgb\.0\.(expected_value_updater|mask_updater)\..*|decoder\.to_rgb\..*"
LAST = r"|decoder\.basic_block{}\.layers\.3\.mask_updater\.weight"


def by_size(state: State) -> State:
    """With the names of newer files."""
    numbered = any(".basic_block0." in key for key in state)
    answer: State = {}
    for key, value in state.items():
        key = key.replace("encoder.from_rgb.conv.layers.0.", "from_rgb.0.")
        if numbered:
            key = re.sub(
                r"(basic_block|skip_connection)(\d+)", lambda found: f"{found[1]}{4 << int(found[2])}", key
            )
        answer[key] = value
    return answer


def our_key(key: str) -> str:
    if match := BLOCK.fullmatch(key):
        side, size, place, part, leaf = match.groups()
        if part in PARTS:
            return f"{side}.{size}.{int(place) // 3}.{PARTS[part]}.{leaf}"
    if match := SKIP.fullmatch(key):
        return f"skips.{match[1]}.{match[2]}"
    return re.sub(r"^rgb_convolutions\.", "pictures.", re.sub(r"^from_rgb\.0\.", "enter.", key))


def public_key(key: str) -> str:
    first, *rest = key.split(".")
    if first in ("encoder", "decoder"):
        size, place, part, leaf = rest
        inside = {own: theirs for theirs, own in PARTS.items()}[part]
        names = [f"{first}.basic_block{size}.layers.{3 * int(place)}", inside, leaf]
        return ".".join(name for name in names if name)
    if first == "skips":
        return f"decoder.skip_connection{rest[0]}.{rest[1]}"
    return ".".join([{"enter": "from_rgb.0", "pictures": "rgb_convolutions"}[first], *rest])


def factor(key: str, value: Tensor) -> float:
    """What the public code multiplies a tensor by."""
    if value.dim() != 4 or ".update." in key:
        return 1.0
    leaving, entering, height, width = value.shape
    # Of a filter for each channel the channels are counted once more.
    count = height * width / leaving if ".impute." in key else entering * height * width
    return float(count**-0.5)


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = by_size(strip_prefix(strip_prefix(state, "module."), "generator."))
    side = max((int(match[2]) for key in state if (match := BLOCK.fullmatch(key))), default=256)
    unused = re.compile(UNUSED + LAST.format(side))
    kept = {our_key(key): value for key, value in state.items() if not unused.fullmatch(key)}
    arguments = {"side": side, "width": kept["enter.weight"].shape[0]}
    return arguments, {key: value * factor(key, value) for key, value in kept.items()}


def to_public(net: nn.Module) -> State:
    return {public_key(key): value / factor(key, value) for key, value in net.state_dict().items()}


register(
    Importer(
        "gcpr",
        recognises=lambda state: any(
            key.endswith("layers.0.expected_value_updater.input_updater.weight") for key in state
        ),
        convert=convert,
        to_public=to_public,
    )
)
