"""Each network with a public checkpoint's weights answers as its public reference implementation does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import registry
from models.checkpoints import load_public
from tests.models import golden

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

# How the reference's output maps to our scale [0, 1], for the networks that do not answer on it.
TANH = {
    "aot-gan", "comodgan", "deepfill-v1", "gcpr", "hifill", "mat", "migan", "pen-net",
    "region-wise",
}  # fmt: skip
IMAGENET = {"partial-conv", "madf"}

# What cases keep of an answer.
PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "output": lambda answer: answer,
    "refined": lambda answer: answer,
    "output_every4": lambda answer: answer[..., 1::4, 2::4],
    "output_middle64": lambda answer: middle(answer, 64),
}


def middle(answer: Tensor, side: int) -> Tensor:
    top, left = ((whole - side) // 2 for whole in answer.shape[-2:])
    return answer[..., top : top + side, left : left + side]


@lru_cache(maxsize=1)
def network(folder: Any, architecture: str) -> nn.Module:
    return load_public(architecture, golden.golden_state(golden.about(folder)))


def tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def on_our_scale(case: golden.Case, answer: Tensor) -> Tensor:
    if case.architecture in TANH or case.folder.name == "glcic_mmagic":
        return (answer + 1) / 2
    return answer * STD + MEAN if case.architecture in IMAGENET else answer


def assert_close(ours: Tensor, truth: Tensor, relative: float = 1e-4, least: float = 0.0) -> None:
    assert ours.shape == truth.shape
    assert (ours - truth).abs().max() <= max(least, float(relative * truth.std() + 1e-5))


@pytest.mark.parametrize("case", golden.cases(), ids=str)
@torch.no_grad()
def test_golden(case: golden.Case) -> None:
    net, arrays = network(case.folder, case.architecture), case.arrays()
    if registry.get(case.architecture).task == "upscale":
        replay_upscale(net, arrays)
    elif case.architecture == "edge-connect":
        replay_edge_connect(net, arrays)
    elif case.architecture == "deepfill-v2":
        replay_deepfill_v2(net, arrays, case.about)
    else:
        # PEN-Net's softmax is all but an argmax: on large pictures rounding decides some of its choices.
        rounding = case.architecture == "pen-net" and arrays["image"].shape[-1] >= 256
        drawn = {name: tensor(array) for name, array in case.drawn(arrays).items()}
        answer = net(tensor(arrays["image"]), tensor(arrays["mask"]), **drawn)
        kept = [name for name in PARTS if name in arrays]
        assert kept
        for name in kept:
            truth = on_our_scale(case, tensor(arrays[name]))
            assert_close(PARTS[name](answer), truth, 1e-3 if rounding else 1e-4)


def replay_deepfill_v2(net: nn.Module, arrays: dict[str, Any], about: dict[str, Any]) -> None:
    """Its attention enlarges what convolutions round, and processors round differently. Formulas are held to
    the tolerance in float64, and float32 to what the official graph's own differs by."""
    inputs = [tensor(arrays[name]) for name in ("image", "mask", "sketch") if name in arrays]
    truth = (tensor(arrays["refined"]) + 1) / 2
    assert_close(net(*inputs), truth, least=about["tf_max_abs_diff"]["refined"] / 2)
    net, inputs = copy.deepcopy(net).double(), [each.double() for each in inputs]
    assert_close(net(*inputs), truth)


def replay_edge_connect(net: Any, arrays: dict[str, Any]) -> None:
    gray, edges, mask, image = (tensor(arrays[name]) for name in ("gray", "edges", "mask", "image"))
    predicted = net.predict_edges(gray, edges, mask)
    assert_close(predicted, tensor(arrays["edge_output"]))
    assert_close(net.fill(image, mask, predicted), tensor(arrays["output"]))


def replay_upscale(net: Any, arrays: dict[str, Any]) -> None:
    """Rows and columns that the reference places by float32 rounding are not compared: ours are exact."""
    truth, scale = tensor(arrays["output"]), float(arrays["scale"])
    height, width = truth.shape[-2:]
    ours = net(tensor(arrays["image"]), scale)[..., :height, :width]
    for axis, name in ((-2, "rows_placed_by_rounding"), (-1, "cols_placed_by_rounding")):
        misplaced = set(np.asarray(arrays.get(name, [])).tolist())
        kept = torch.tensor([i for i in range(truth.shape[axis]) if i not in misplaced])
        ours, truth = ours.index_select(axis, kept), truth.index_select(axis, kept)
    assert_close(ours, truth)
