"""Public checkpoints of Co-Mod-GAN in two layouts: official ones as converted to torch, and MI-GAN's files.

Both scale their weights when they are used; here they are scaled once and for all.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from models.checkpoints.importer import Importer, State, register, strip_prefix, swapped
from models.checkpoints.stylegan import factor
from models.inpainting.comodgan import DEEPEST, Layout
from models.layers.stylegan import halved_sizes

MAPPED = 8
CONSTANTS = re.compile(r".*(\.kernel|resample_filter)")


def migan_names(side: int) -> dict[str, str]:
    """Our parameter's name -> theirs."""
    names = {"mean_style": "mapping.w_avg"}
    names |= both("enter", f"encoder.b{side}.fromrgb", "encoder.", ".conv")
    for index in range(MAPPED):
        names |= both(f"mapping.layers.{index}", f"mapping.fc{index}")
    for level, size in enumerate(halved_sizes(side, DEEPEST)):
        kept = "conv" if size == DEEPEST else "conv0"
        names |= both(f"keep.{level}", f"encoder.b{size}.{kept}", "encoder.", ".conv")
        if size != DEEPEST:
            names |= both(f"halve.{level}", f"encoder.b{size}.conv1", "encoder.", ".conv")
    names |= both("encoder.dense", "encoder.b4.fc") | both("spread", "synthesis.b4.fc")
    names |= migan_layer("first", "synthesis.b4.conv") | migan_colours("first_picture", "synthesis.b4.torgb")
    for level, size in enumerate(reversed(halved_sizes(side, DEEPEST)[:-1])):
        own, theirs = f"levels.{level}", f"synthesis.b{size}"
        names |= migan_layer(f"{own}.grown", f"{theirs}.conv0") | migan_layer(
            f"{own}.kept", f"{theirs}.conv1"
        )
        names |= migan_colours(f"{own}.picture", f"{theirs}.torgb")
    return names


def both(own: str, theirs: str, before: str = "", after: str = "") -> dict[str, str]:
    return {f"{before}{own}{after}.{leaf}": f"{theirs}.{leaf}" for leaf in ("weight", "bias")}


def migan_colours(own: str, theirs: str) -> dict[str, str]:
    names = {f"{own}.conv.weight": f"{theirs}.weight", f"{own}.bias": f"{theirs}.bias"}
    return names | both(f"{own}.conv.affine", f"{theirs}.affine")


def migan_layer(own: str, theirs: str) -> dict[str, str]:
    names = migan_colours(own, theirs)
    names |= {
        f"{own}.noise_strength": f"{theirs}.noise_strength",
        f"{own}.noise_const": f"{theirs}.noise_const",
    }
    return names


def official_names(side: int) -> dict[str, str]:
    encoder, synthesis = "G_synthesis.E", "G_synthesis.G_"
    names: dict[str, str] = {}

    def biased(own: str, weight: str, bias: str) -> None:
        names.update({f"{own}.conv.weight": f"{weight}.weight", f"{own}.conv.bias": f"{bias}.bias"})

    def colours(own: str, theirs: str, bias: str) -> None:
        names.update({f"{own}.conv.weight": f"{theirs}.conv.weight", f"{own}.bias": f"{bias}.bias"})
        names.update(both(f"{own}.conv.affine", f"{theirs}.conv.modulation"))

    def layer(own: str, theirs: str) -> None:
        colours(own, theirs, f"{theirs}.activate")
        names[f"{own}.noise_strength"] = f"{theirs}.noise.weight"

    for index in range(MAPPED):
        names |= both(f"mapping.layers.{index}", f"G_mapping.G_mapping.Dense{index}")
    largest = f"{encoder}.{side}x{side}_0.FromRGB"
    biased("encoder.enter", f"{largest}.0", f"{largest}.1")
    for level, size in enumerate(halved_sizes(side, DEEPEST)):
        theirs = f"{encoder}.{size}x{size}"
        kept = f"{theirs}.Conv" if size == DEEPEST else f"{theirs}.Conv0"
        biased(f"encoder.keep.{level}", f"{kept}.0", f"{kept}.1")
        if size != DEEPEST:
            biased(f"encoder.halve.{level}", f"{theirs}.Conv1_down.1", f"{theirs}.Conv1_down.2")
    names |= both("encoder.dense", f"{encoder}.4x4.Dense0") | both("spread", f"{synthesis}4x4.Dense")
    layer("first", f"{synthesis}4x4.Conv")
    colours("first_picture", f"{synthesis}4x4.ToRGB", f"{synthesis}4x4.ToRGB")
    for level, size in enumerate(reversed(halved_sizes(side, DEEPEST)[:-1])):
        own, theirs = f"levels.{level}", f"{synthesis}{size}x{size}"
        layer(f"{own}.grown", f"{theirs}.Conv0_up")
        layer(f"{own}.kept", f"{theirs}.Conv1")
        colours(f"{own}.picture", f"{theirs}.ToRGB", f"{theirs}.ToRGB")
    return names


NAMES = {"official": official_names, "migan": migan_names}
LARGEST: dict[Layout, str] = {
    "official": r"G_synthesis\.E\.(\d+)x\d+_0\.FromRGB\.0\.weight",
    "migan": r"encoder\.b(\d+)\.fromrgb\.weight",
}


def inside(state: State) -> State:
    return strip_prefix(strip_prefix(state, "module."), "generator.")


def told(state: State) -> tuple[Layout, int] | None:
    """The layout and the side that the keys tell."""
    layouts: tuple[Layout, ...] = ("official", "migan")
    if "mapping.fc0.weight" in state or "G_mapping.G_mapping.Dense0.weight" in state:
        for layout in layouts:
            found = [int(match[1]) for key in state if (match := re.fullmatch(LARGEST[layout], key))]
            if found:
                return layout, max(found)
    return None


def convert(state: State) -> tuple[dict[str, Any], State]:
    state = inside(state)
    layout, side = told(state) or ("official", 512)
    renamed = swapped(NAMES[layout](side))
    ours: State = {}
    for key, value in state.items():
        if CONSTANTS.fullmatch(key):
            continue
        own = renamed.get(key, key)
        if own.endswith("conv.weight") and value.dim() == 5:
            value = value[0]
        elif own.endswith(".noise_strength"):
            value = value.reshape(())
        elif own.endswith("icture.bias"):
            value = value.reshape(-1)
        ours[own] = value * factor(own, value)
    arguments = {"side": side, "layout": layout, "width": ours["spread.weight"].shape[1] // 2}
    return arguments, ours


def to_public(net: nn.Module) -> State:
    layout: Layout = net.layout  # type: ignore[assignment]
    names = NAMES[layout](net.window)  # type: ignore[arg-type]
    answer: State = {}
    for key, value in net.state_dict().items():
        value = value / factor(key, value)
        if layout == "official":
            if key.endswith("conv.weight") and not key.startswith("encoder."):
                value = value[None]
            elif key.endswith(".noise_strength"):
                value = value.reshape(1)
            elif key.endswith("icture.bias"):
                value = value.reshape(1, 3, 1, 1)
        answer[names[key]] = value
    return answer


register(
    Importer(
        "comodgan",
        recognises=lambda state: told(inside(state)) is not None,
        convert=convert,
        to_public=to_public,
    )
)
