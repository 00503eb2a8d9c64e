"""Public checkpoints of region-wise inpainting: the variables of its TensorFlow graph."""

from __future__ import annotations

from typing import Any

from models.checkpoints.importer import Importer, State, register, strip_prefix, swapped
from models.checkpoints.tensorflow import from_tensorflow, to_tensorflow

ENCODER = {
    **{f"down.{index}": f"conv{index + 1}_1" for index in (0, 2, 4, 5)},
    "down.1": "conv2_downsample_1",
    "down.3": "conv4_downsample_1",
    **{f"dilated.{index}": f"conv{index + 7}_atrous_1" for index in range(4)},
    "fused.0": "conv11_1",
    "fused.1": "conv12_1",
}
COARSE = {
    "regions.0": "com_13_fusion_1",
    "regions.1": "com_14_fusion",
    "regions.2": "com_15_fusion_1",
    "last.0": "conv16_1",
    "last.1": "conv17_1",
    "last.2": "conv18_1",
}
FINE = {
    "fused.0": "conv13_upsample_1",
    "fused.1": "conv14_1",
    "fused.2": "conv15_upsample_1",
    "fused.3": "conv16_1",
    "last": "conv17_1",
}
PARTS = (
    ("encoders.0", "inpaint_net", ENCODER),
    ("coarse", "inpaint_net", COARSE),
    ("encoders.1", "inpaint_net_1", ENCODER),
    ("fine", "inpaint_net_1", FINE),
)
NAMES = {
    f"{own}.{layer}.conv.{ours}": f"{scope}/{public}/{theirs}"
    for own, scope, layers in PARTS
    for layer, public in layers.items()
    for ours, theirs in (("weight", "kernel"), ("bias", "bias"))
}


def convert(state: State) -> tuple[dict[str, Any], State]:
    ours = from_tensorflow(strip_prefix(state, "module."), swapped(NAMES))
    return {"width": ours["encoders.0.down.0.conv.weight"].shape[0]}, ours


register(
    Importer(
        "region-wise",
        recognises=lambda state: any(key.endswith("inpaint_net/com_14_fusion/kernel") for key in state),
        convert=convert,
        to_public=lambda net: to_tensorflow(dict(net.state_dict()), NAMES),
    )
)
