from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import models
from models.layers import bicubic
from models.layers.meta_upscale import MetaUpscale
from models.layers.placement import Axis, enlarged, exact
from models.upscaling.upscaler import steps

SCALES = ["1.0", "1.1", "1.37", "2", "2.2", "2.7", "3.1416", "4", "6.5", "8"]


def plain(layer: MetaUpscale, features, rows: Axis, columns: Axis, inverse: float):
    """The paper's formula, one enlarged pixel at a time."""
    padded = F.pad(features, (1, 1, 1, 1))
    answer = torch.zeros(features.shape[0], layer.colours, rows.count, columns.count)
    for i, row in enumerate(rows.pixels):
        for j, column in enumerate(columns.pixels):
            top, left = row * rows.step // rows.period, column * columns.step // columns.period
            v = torch.tensor([rows.offset(row), columns.offset(column), inverse])
            weight = layer.leave(F.relu(layer.enter(v))).view(layer.channels, 3, 3, layer.colours)
            window = padded[:, :, top : top + 3, left : left + 3]
            answer[:, :, i, j] = torch.einsum("bchw,chwk->bk", window, weight)
    return answer


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("form", ["phases", "factored", "direct", "forward"])
def test_every_form_is_the_formula(form, scale):
    torch.manual_seed(1)
    layer = MetaUpscale(5, 7)
    features = torch.randn(2, 5, 6, 5)
    vertical, horizontal = Fraction(scale), Fraction("1.5")
    rows = Axis(vertical, 2, enlarged(6, vertical) - 3)
    columns = Axis(horizontal, 1, enlarged(5, horizontal) - 1)
    with torch.inference_mode():
        expected = plain(layer, features, rows, columns, 0.4)
        got = getattr(layer, form)(features, rows, columns, (0, 0), 0.4)
    assert torch.allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("form", ["phases", "factored", "direct"])
def test_every_form_runs_in_half_precision(form):
    torch.manual_seed(3)
    layer = MetaUpscale(6, 8)
    features, axis = torch.randn(1, 6, 6, 6), Axis(Fraction("2.7"), 0, 16)
    with torch.inference_mode():
        expected = plain(layer, features, axis, axis, 0.4)
        got = getattr(layer.bfloat16(), form)(features.bfloat16(), axis, axis, (0, 0), 0.4)
    assert (got - expected).abs().max() < 0.05 * expected.std()


@pytest.mark.parametrize("scale", [0.99, (2.0, 0.5), 0.0, -2.0])
@pytest.mark.parametrize("name", ["meta-sr-small", "meta-rdn", "meta-edsr"])
def test_smaller_is_refused(name, scale):
    small = {"meta-rdn": {"depth": 1, "layers": 1}}.get(name, {"blocks": 1})
    net = models.create(name, channels=4, hidden=3, **small)
    with pytest.raises(ValueError, match="smaller"):
        net(torch.rand(1, 3, 5, 5), scale)


@pytest.mark.parametrize("levels", [[5.0] * 6, [-5.0] * 6, [5.0, -5.0, 0.0, 0.1, -0.1, 5.0]])
def test_units_that_never_bend_are_joined_without_a_change(levels):
    torch.manual_seed(2)
    layer = MetaUpscale(4, 6)
    layer.enter.bias.data = torch.tensor(levels)
    features, axis = torch.randn(1, 4, 7, 7), Axis(Fraction("1.37"), 0, 9)
    with torch.inference_mode():
        bent, straight, _ = layer.units(0.7)
        assert set(bent.tolist()).isdisjoint(straight.tolist())
        assert len(straight) >= levels.count(5.0)
        got = layer.factored(features, axis, axis, (0, 0), 0.7)
        assert torch.allclose(got, plain(layer, features, axis, axis, 0.7), atol=1e-4)


def test_phases_are_not_chosen_where_they_are_thousands():
    layer = MetaUpscale(64, 48)
    features = torch.empty(1, 64, 256, 256, device="meta")
    with torch.inference_mode():
        for scale, form in (("1.37", "factored"), ("2", "phases"), ("2.7", "phases"), ("3.1416", "factored")):
            axis = Axis(Fraction(scale), 0, enlarged(256, Fraction(scale)))
            assert layer.cheapest(features, axis, axis) == form


@given(st.integers(1, 5000), st.integers(100, 800))
def test_places_are_exact(side, hundredths):
    scale = exact(hundredths / 100)
    assert scale == Fraction(hundredths, 100)
    out = enlarged(side, scale)
    assert out == max(1, math.floor(Fraction(side * hundredths, 100) + Fraction(1, 2)))
    last = Axis(scale, out - 1, 1)
    assert last.source(out - 1) == math.floor((out - 1) / scale) < side
    assert 0 <= last.offset(out - 1) < 1


@settings(max_examples=15, deadline=None)
@given(
    scale=st.sampled_from(SCALES),
    top=st.integers(0, 12),
    left=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_a_region_from_a_tile_is_the_crop_of_the_whole(scale, top, left, seed):
    torch.manual_seed(seed)
    net = small_net()
    image = torch.rand(1, 3, 40, 36)
    with torch.inference_mode():
        features = net.features(image)
        whole = net.render(features, exact(float(scale)))
        tile = features[:, :, top : top + 24, left : left + 20]
        # Three pixels in from the tile's edge neither the 3x3 windows nor bicubic's taps look out of it.
        begin = [math.ceil((side + 3) * Fraction(scale)) for side in (top, left)]
        end = [math.floor((side + 20 - 3) * Fraction(scale)) for side in (top, left)]
        region = (begin[0], begin[1], end[0] - begin[0], end[1] - begin[1])
        part = net.render(tile, exact(float(scale)), origin=(top, left), region=region)
    assert torch.allclose(part, whole[:, :, begin[0] : end[0], begin[1] : end[1]], atol=1e-5)


def small_net():
    net = models.create("meta-sr-small", channels=8, blocks=2, hidden=6).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return net


def test_every_scale_has_its_size_and_keeps_the_mean():
    net = small_net()
    image = torch.full((1, 3, 11, 9), 0.5)
    with torch.inference_mode():
        features = net.features(image)
        for tenths in range(10, 81):
            answer = net.render(features, tenths / 10)
            assert answer.shape[-2:] == (enlarged(11, tenths / 10), enlarged(9, tenths / 10))
            assert answer.isfinite().all()


def test_bicubic_of_a_tile_joins_without_a_seam():
    image = torch.rand(1, 3, 30, 30)
    rows = Axis(Fraction("2.7"), 0, 81)
    whole = bicubic.resize(image, rows, rows, (0, 0))
    inner = Axis(Fraction("2.7"), 30, 30)
    part = bicubic.resize(image[:, :, 8:26, 8:26], inner, inner, (8, 8))
    assert torch.allclose(part, whole[:, :, 30:60, 30:60], atol=1e-6)


def test_tiles_with_the_receptive_fields_overlap_equal_the_whole():
    torch.manual_seed(0)
    net = models.create("meta-sr-small", channels=16, blocks=4, hidden=8).eval()
    for parameter in net.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter, a=1.0)
            parameter.data *= 0.5
    margin = net.receptive_field
    image = torch.rand(1, 3, 24 + 2 * margin, 24 + 2 * margin)
    with torch.inference_mode():
        whole = net(image, 2.0)
        tile = image[:, :, : 12 + 2 * margin]
        region = (2 * margin, 0, 20, whole.shape[-1])
        part = net.render(net.features(tile), 2.0, region=region)
    assert (part - whole[:, :, 2 * margin : 2 * margin + 20]).abs().max() < 1 / 255


@given(st.integers(1, 90), st.integers(1, 90), st.integers(10, 80), st.integers(10, 80))
def test_steps_lead_to_the_size_by_the_factors(height, width, down, across):
    factors = Fraction(down, 10), Fraction(across, 10)
    out = enlarged(height, factors[0]), enlarged(width, factors[1])
    planned = steps((height, width), factors, out)
    assert len(planned) == (2 if max(factors) > 4 else 1)
    assert planned[-1][1] == out
    for axis, side in enumerate((height, width)):
        assert math.prod(step[axis] for step, _ in planned) == factors[axis]
        for step, size in planned:
            assert 1 <= step[axis] <= 4
            # Every pixel of a step reads a pixel that the step before has made.
            assert Axis(step[axis], 0, size[axis]).source(size[axis] - 1) < side
            side = size[axis]
