"""pmr: its formulas on small arrays, its network by the inpainters' contract."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.inpainting.pmr import AttentionGuidedFusion, MaskAwareFusion
from models.layers.priority import PriorityConv, filled_first, striking
from tests.models import contract


@pytest.fixture
def edge() -> tuple[Tensor, Tensor]:
    """Dark above, bright below, a hole on the right: the contour runs into it at rows 7 and 8."""
    picture = torch.zeros(1, 1, 16, 16)
    picture[..., 8:, :] = 1
    valid = torch.ones_like(picture)
    valid[..., 10:] = 0
    return picture * valid, valid


@pytest.mark.parametrize("lowest", [True, False])
def test_the_contour_is_filled_before_flat_parts(edge, lowest):
    picture, valid = edge
    new = filled_first(picture, valid, lowest, delta=0.5) - valid
    rows, columns = new[0, 0].nonzero().T
    assert set(columns.tolist()) == {10}
    assert {7, 8} & set(rows.tolist())
    assert set(rows.tolist()) <= {6, 7, 8, 9}


def test_a_corner_is_filled_where_its_sides_run_into_the_hole():
    """A bright square whose one corner is missing: its two sides are the contours, not the flats between."""
    picture = torch.zeros(1, 1, 24, 24)
    picture[..., :14, :14] = 1
    valid = torch.ones_like(picture)
    valid[..., 9:19, 9:19] = 0
    new = (filled_first(picture * valid, valid, True, delta=0.6) - valid)[0, 0]
    assert new[9, 12:16].any()  # the side that comes from above
    assert new[12:16, 9].any()
    assert not new[9, 9:12].any()  # inside the square nothing strikes
    assert not new[18].any()


def test_isophotes_do_not_see_the_holes_own_edge():
    """A flat bright picture with zeros in its hole has a gradient at the rim, and no contour."""
    valid = torch.ones(1, 1, 12, 12)
    valid[..., 4:8, 4:8] = 0
    rho = striking(0.8 * valid, valid, lowest=True)
    assert rho.abs().max() < 1e-5


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_without_priorities_it_is_partial_convolution(delta):
    """At delta 0, and where no contour strikes, the whole rim is filled."""
    torch.manual_seed(1)
    layer = PriorityConv(3, 4, True, delta)
    valid = torch.ones(2, 1, 10, 10)
    valid[0, :, 3:7, 2:8] = 0
    valid[1, :, :, 5:] = 0
    features = torch.randn(2, 3, 10, 10) if delta == 0 else torch.zeros(2, 3, 10, 10)
    answer, mask = layer(features, valid)
    plain, found = layer.partial([features], [valid])
    assert torch.equal(mask, found)
    assert torch.equal(answer, plain)


def test_masks_only_grow_and_by_one_rim(edge):
    torch.manual_seed(2)
    layer, (picture, valid) = PriorityConv(1, 1, False, 0.5), edge
    _, mask = layer(picture, valid)
    grown = torch.nn.functional.max_pool2d(valid, 3, 1, 1)
    assert (mask >= valid).all()
    assert (mask <= grown).all()
    assert (mask != valid).any()


def test_fused_masks_are_unions_and_features_means_of_the_known():
    torch.manual_seed(3)
    fusion = MaskAwareFusion([4, 6])
    features = [torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)]
    high, low = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)
    high[..., :3, :] = 1
    low[..., :, :1] = 1
    fused, masks = fusion(features, [high, low])
    union = torch.maximum(high, low.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(masks[0], union)
    assert torch.equal(masks[1], torch.maximum(low, torch.nn.functional.max_pool2d(high, 2)))
    assert torch.equal(fused[0][..., 1, 5], features[0][..., 1, 5])  # known to the branch itself alone
    assert not fused[0][..., 6, 6].any()  # known to none
    from_low = fusion.paths[0][1](features[1])[..., 0, 0]
    torch.testing.assert_close(fused[0][..., 0, 0], (features[0][..., 0, 0] + from_low) / 2)


def test_attention_rows_sum_to_one_over_known_places_only():
    features = torch.randn(2, 5, 4, 4)
    missing = torch.zeros(2, 1, 4, 4)
    missing[0, :, 1:3, 1:3] = 1
    missing[1] = 1
    weights = AttentionGuidedFusion.weights(features, missing)
    torch.testing.assert_close(weights[0].sum(1), torch.ones(16))
    assert not weights[0][:, missing[0].flatten() > 0].any()
    assert not weights[1].any()


@pytest.fixture
def net():
    return contract.make("pmr", widths=[6, 8, 8, 8], stages=3, attended=8)


def test_the_contract(net):
    contract.answers_alike_in_any_batch(net)
    contract.is_blind_to_the_hole(net)
    contract.keeps_its_size_rule("pmr", net)
    contract.is_finite_without_anything_known_and_without_a_hole(net)


def test_the_export_answers_alike(net):
    """But for places whose priority is within rounding of the threshold."""
    differences = contract.differs_from_its_export_by(net)
    assert (differences > 1e-3).float().mean() < 0.01


def test_it_learns(net):
    image, mask = contract.pictures(2, *contract.sizes(net))
    net.train()(image, mask).square().mean().backward()
    assert not [key for key, parameter in net.named_parameters() if parameter.grad is None]
