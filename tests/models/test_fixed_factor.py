"""Upscalers of one factor: public files in three layouts, any factor out of the one, tiles, and an export."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import models
from models.checkpoints import CheckpointError, importers, load_public, recognise
from models.imresize import matrix
from models.layers.placement import Axis, enlarged
from models.upscaling.upscaler import steps
from tests.models.exporting import answered, exported

ARGUMENTS: list[tuple[str, dict[str, int]]] = [
    ("esrgan", {"channels": 6, "blocks": 2, "growth": 3}),
    ("esrgan", {"channels": 4, "blocks": 11, "growth": 2, "doublings": 1}),
    ("esrgan", {"channels": 4, "blocks": 1, "growth": 5, "doublings": 3}),
    ("esrgan", {"channels": 5, "blocks": 1, "growth": 2, "unshuffle": 2}),
    ("esrgan", {"channels": 5, "blocks": 1, "growth": 2, "unshuffle": 4}),
    ("srvgg", {"channels": 5, "layers": 3, "factor": 4}),
    ("srvgg", {"channels": 4, "layers": 11, "factor": 2}),
]


def seeded(name: str, arguments: dict[str, Any]) -> Any:
    torch.manual_seed(5)
    net = models.create(name, **arguments).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


def named_as_in_2019(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"conv_body": "trunk_conv", "conv_hr": "HRconv", "conv_up": "upconv", "body.": "RRDB_trunk."}
    answer = {}
    for key, value in state.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        answer[re.sub(r"\.rdb(\d)", r".RDB\1", key)] = value
    return answer


def counted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layout of 2018: a list, in which each doubling is three modules and an activation is one."""
    ups = len([key for key in state if re.fullmatch(r"conv_up\d\.weight", key)])
    blocks = 1 + max(int(match[1]) for key in state if (match := re.match(r"body\.(\d+)", key)))
    names = {
        "conv_first": 0,
        "conv_body": f"1.sub.{blocks}",
        "conv_hr": 3 * ups + 2,
        "conv_last": 3 * ups + 4,
    }
    names |= {f"conv_up{number}": 3 * number for number in range(1, ups + 1)}
    answer = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        inside = re.sub(r"body\.(\d+)\.rdb(\d)\.(conv\d)", r"1.sub.\1.RDB\2.\3.0", module)
        answer[f"model.{names.get(module, inside)}.{leaf}"] = value
    return answer


WRAPPINGS = {
    "bare": lambda state: state,
    "with an average": lambda state: {
        "params": {key: torch.zeros_like(value) for key, value in state.items()},
        "params_ema": state,
    },
    "halved": lambda state: {key: value.half() for key, value in state.items()},
    "named as in 2019": named_as_in_2019,
    "counted": counted,
}


def layouts(name: str, arguments: dict[str, int]) -> set[str]:
    """The wrappings that a public file of this network may have."""
    if name == "srvgg":
        return set(WRAPPINGS) - {"named as in 2019", "counted"}
    # Nothing was unshuffled yet when layers were counted.
    return set(WRAPPINGS) - ({"counted"} if "unshuffle" in arguments else set())


PUBLIC = [
    (name, arguments, wrapping)
    for name, arguments in ARGUMENTS
    for wrapping in sorted(layouts(name, arguments))
]


@pytest.mark.parametrize(("name", "arguments", "wrapping"), PUBLIC, ids=str)
@torch.inference_mode()
def test_round_trip(name: str, arguments: dict[str, int], wrapping: str) -> None:
    net = seeded(name, arguments)
    public = WRAPPINGS[wrapping](importers()[name].to_public(net))
    assert recognise(public) == name
    again = load_public(name, public)
    assert again.density == net.density
    image = torch.rand(1, 3, 6, 7)
    tolerance = 1e-2 if wrapping == "halved" else 0.0
    torch.testing.assert_close(again.features(image), net.features(image), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS[::5])
def test_a_wrong_checkpoint_names_its_keys(name: str, arguments: dict[str, int]) -> None:
    public = importers()[name].to_public(seeded(name, arguments))
    *_, lost = (key for key in public if key.endswith("bias"))
    del public[lost]
    public["stranger.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"misses 1 keys.*unexpected 1 keys, first 'stranger.weight'"):
        load_public(name, public)


def test_public_files_have_their_published_sizes() -> None:
    made = [("esrgan", {}), ("esrgan", {"unshuffle": 2}), ("esrgan", {"blocks": 6}), ("srvgg", {})]
    made += [("srvgg", {"layers": 16})]
    with torch.device("meta"):
        nets = [models.create(name, **arguments) for name, arguments in made]
    count = [round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2) for net in nets]
    assert count == [16.7, 16.7, 4.47, 1.21, 0.62]
    assert [net.density for net in nets] == [4, 2, 4, 4, 4]


@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS, ids=str)
@torch.inference_mode()
def test_any_factor_comes_out_of_the_one(name: str, arguments: dict[str, int]) -> None:
    net, image = seeded(name, arguments), torch.rand(2, 3, 9, 7)
    features = net.features(image)
    assert features.shape == (2, 3, 9 * net.density, 7 * net.density)
    torch.testing.assert_close(net.render(features, net.density), features)
    for scale in (1.0, 1.7, 2.7, (3.1, 1.2)):
        down, across = scale if isinstance(scale, tuple) else (scale, scale)
        assert net(image, scale).shape == (2, 3, enlarged(9, down), enlarged(7, across))
    with pytest.raises(ValueError, match="smaller"):
        net(image, 0.9)


@torch.inference_mode()
def test_a_dense_block_sees_all_before_it() -> None:
    block = seeded("esrgan", {"channels": 4, "growth": 2, "blocks": 1}).blocks[0].dense[0]
    x = torch.rand(1, 4, 5, 5)
    *layers, last = block.layers
    seen = [x]
    for layer in layers:
        seen.append(F.leaky_relu(layer(torch.cat(seen, 1)), 0.2))
    torch.testing.assert_close(block(x), x + 0.2 * last(torch.cat(seen, 1)))


@pytest.mark.parametrize("scale", ["1", "1.5", "2.7", "6"])
@torch.inference_mode()
def test_rendering_is_the_standard_resize_of_the_answer(scale: str) -> None:
    net, image = seeded(*ARGUMENTS[0]), torch.rand(1, 3, 12, 10)
    features, factor = net.features(image), Fraction(scale)
    rows, columns = (
        torch.from_numpy(matrix(side * 4, enlarged(side, factor), float(factor) / 4)) for side in (12, 10)
    )
    torch.testing.assert_close(
        net.render(features, factor), rows @ features @ columns.T, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("scale", ["1", "2.7", "4"])
@torch.inference_mode()
def test_tiles_join_without_a_seam(scale: str) -> None:
    net = seeded("srvgg", {"channels": 4, "layers": 2, "factor": 4})
    factor, margin, cut = Fraction(scale), 4 + 2, 10  # four convolutions, and the resize's own reach
    image = torch.rand(1, 3, 30, 8)
    whole = net(image, factor)
    below = net.features(image[:, :, cut:])
    first = math.ceil((cut + margin) * factor)
    region = (first, 0, whole.shape[2] - first, whole.shape[3])
    part = net.render(below, factor, origin=(cut, 0), region=region)
    torch.testing.assert_close(part, whole[:, :, first:], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_half_precision_leaves_a_picture_its_levels() -> None:
    for name, arguments in ARGUMENTS:
        net = seeded(name, arguments)
        with torch.autocast("cpu", torch.bfloat16):
            assert net.features(torch.rand(1, 3, 6, 6)).dtype == torch.float32


@pytest.mark.parametrize(("name", "arguments"), [ARGUMENTS[0], ARGUMENTS[3], ARGUMENTS[5]], ids=str)
@torch.inference_mode()
def test_an_export_answers_alike_at_any_size(name: str, arguments: dict[str, int]) -> None:
    from models.export import heavy_part

    net = seeded(name, arguments)
    module, _, _ = heavy_part(net, "upscale")
    session = exported(module, torch.rand(2, 3, 12, 14))
    for shape in ((1, 3, 9, 16), (3, 3, 16, 11)):
        image = torch.rand(shape)
        torch.testing.assert_close(answered(session, image), net.features(image), rtol=1e-3, atol=1e-4)


@given(st.integers(1, 90), st.integers(10, 80), st.integers(10, 80), st.sampled_from([2, 3, 4, 8]))
def test_no_step_asks_for_more_than_the_factor(side: int, down: int, across: int, most: int) -> None:
    factors = Fraction(down, 10), Fraction(across, 10)
    out = enlarged(side, factors[0]), enlarged(side, factors[1])
    planned = steps((side, side), factors, out, most)
    assert planned[-1][1] == out
    for axis in range(2):
        assert math.prod(step[axis] for step, _ in planned) == factors[axis]
        before = side
        for step, size in planned:
            assert 1 <= step[axis] <= most
            assert Axis(step[axis], 0, size[axis]).source(size[axis] - 1) < before
            before = size[axis]
