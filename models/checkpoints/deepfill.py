"""Public checkpoints of DeepFill v1 and v2, which name their layers alike."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from models.checkpoints.importer import Importer, State, register, strip_prefix

DOWN = "_downsample"
COARSE = [
    "conv1", f"conv2{DOWN}", "conv3", f"conv4{DOWN}", "conv5", "conv6",
    "conv7_atrous", "conv8_atrous", "conv9_atrous", "conv10_atrous",
    "conv11", "conv12", "conv13", "conv14", "conv15", "conv16", "conv17",
]  # fmt: skip
BEFORE = ["pmconv1", f"pmconv2{DOWN}", "pmconv3", f"pmconv4{DOWN}", "pmconv5", "pmconv6"]
AFTER = ["pmconv9", "pmconv10"]
MERGED = [f"allconv{number}" for number in range(11, 18)]
UPSAMPLED = ("conv13", "conv15", "allconv13", "allconv15")


def layers(v2: bool) -> dict[str, str]:
    """Our layer's name -> the public one's, both up to `.weight` or `.bias`."""
    refinement = [f"x{name}" if v2 else name for name in COARSE[:10]]
    coarse, fine = ("", "") if v2 else ("coarse_generator.", "fine_generator.")
    groups = {
        "coarse": [coarse + name for name in COARSE],
        "refined.convolutions": [fine + name for name in refinement],
        "refined.before": [fine + name for name in BEFORE],
        "refined.after": [fine + name for name in AFTER],
        "refined.merged": [fine + name for name in MERGED],
    }
    names = {}
    for group, publics in groups.items():
        for index, public in enumerate(publics):
            doubled = public.rsplit(".", 1)[-1] in UPSAMPLED
            ours = f"{group}.{index}.layer.conv" if doubled else f"{group}.{index}.conv"
            names[ours] = f"{public}_upsample.conv.conv" if doubled and v2 else f"{public}.conv"
    return names


def ours(state: State, v2: bool) -> State:
    """Renamed; a key that has no place keeps its name, so that it is reported."""
    renamed = {public: own for own, public in layers(v2).items()}
    answer: State = {}
    for key, value in state.items():
        layer, _, leaf = key.rpartition(".")
        answer[f"{renamed[layer]}.{leaf}" if layer in renamed else key] = value
    return answer


def public(net: nn.Module, v2: bool) -> State:
    names = layers(v2)
    answer: State = {}
    for key, value in net.state_dict().items():
        layer, _, leaf = key.rpartition(".")
        answer[f"{names[layer]}.{leaf}"] = value
    return answer


def swapped(state: State) -> State:
    """For weights trained on BGR: the colours of each stage's first and last layer in our order."""
    answer = dict(state)
    for key in ("coarse.0", "refined.convolutions.0", "refined.before.0"):
        weight = state[f"{key}.conv.weight"]
        answer[f"{key}.conv.weight"] = weight[:, [2, 1, 0, *range(3, weight.shape[1])]]
    for key in (f"coarse.{len(COARSE) - 1}", f"refined.merged.{len(MERGED) - 1}"):
        for leaf in ("weight", "bias"):
            answer[f"{key}.conv.{leaf}"] = state[f"{key}.conv.{leaf}"].flip(0)
    return answer


ChannelOrder = Literal["rgb", "bgr"]


def in_order(state: State, channel_order: ChannelOrder) -> State:
    return swapped(state) if channel_order == "bgr" else state


def convert_v2(state: State, channel_order: ChannelOrder = "rgb") -> tuple[dict[str, Any], State]:
    state = strip_prefix(state, "module.", "netG.", "generator.")
    first = state["conv1.conv.weight"]
    arguments = {"width": first.shape[0] // 2, "sketch": first.shape[1] == 6}
    return arguments, in_order(ours(state, v2=True), channel_order)


def convert_v1(
    state: State, channel_order: ChannelOrder = "rgb", official: bool | None = None
) -> tuple[dict[str, Any], State]:
    """Files converted from TensorFlow prefix every key with netG.; the port's own do not."""
    inside = strip_prefix(state, "netG.", "module.netG.")
    if official is None:
        official = inside is not state
    inside = strip_prefix(inside, "module.")
    width = inside["coarse_generator.conv1.conv.weight"].shape[0]
    return {"width": width, "official": official}, in_order(ours(inside, v2=False), channel_order)


def public_v1(net: nn.Module) -> State:
    prefix = "netG." if net.refined.attention.official else ""  # type: ignore[union-attr]
    return {prefix + key: value for key, value in public(net, v2=False).items()}


def has(state: State, ending: str) -> bool:
    return any(key.endswith(ending) for key in state)


register(
    Importer(
        "deepfill-v2",
        recognises=lambda state: has(state, "allconv13_upsample.conv.conv.weight"),
        convert=convert_v2,
        to_public=lambda net: public(net, v2=True),
    )
)
register(
    Importer(
        "deepfill-v1",
        recognises=lambda state: has(state, "fine_generator.allconv13.conv.weight"),
        convert=convert_v1,
        to_public=public_v1,
    )
)
