"""Contextual attention in matrix products equals the formula of the papers' code, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import models
from models.layers import contextual_attention
from models.layers.contextual_attention import ContextualAttention, pick
from models.layers.gated import GatedConv, PaddedConv
from tests.models.memory import peak_growth


def rows_picked(n: int, m: int) -> list[int]:
    return [int(np.floor(i * (n - 1) / max(1, m - 1) + 0.5)) for i in range(m)]


def picked(x: Tensor, height: int, width: int) -> Tensor:
    return x[..., rows_picked(x.shape[-2], height), :][..., rows_picked(x.shape[-1], width)]


def fused(scores: Tensor, height: int, width: int) -> Tensor:
    """Two convolutions with a 3x3 identity, the second with rows and columns of both indices swapped."""
    identity, count = torch.eye(3)[None, None], height * width
    scores = F.conv2d(scores.reshape(1, 1, count, count), identity, padding=1)
    scores = scores.view(height, width, height, width).permute(1, 0, 3, 2)
    scores = F.conv2d(scores.reshape(1, 1, count, count), identity, padding=1)
    return scores.view(width, height, width, height).permute(1, 0, 3, 2).reshape(count, count)


def formula(features: Tensor, mask: Tensor) -> Tensor:
    """One sample (1, C, h, w): its patches are the filters of one convolution and of one transposed."""
    height, width = features.shape[-2] // 2, features.shape[-1] // 2
    half = picked(features, height, width)
    filters = F.unfold(half, 3, padding=1)[0].T.reshape(height * width, -1, 3, 3)
    length = filters.flatten(1).norm(dim=1).clamp(min=1e-4)[:, None, None, None]
    scores = F.conv2d(half, filters / length, padding=1)[0].flatten(1).T  # query, key
    small = picked(picked(mask, *features.shape[-2:]), height, width)
    usable = (F.unfold(small, 3, padding=1).mean(1) == 0).float()
    weights = torch.softmax(fused(scores, height, width) * usable * 10, 1) * usable
    pieces = F.unfold(features, 4, stride=2, padding=1)[0].T.reshape(height * width, -1, 4, 4)
    return F.conv_transpose2d(weights.T.view(1, -1, height, width), pieces, stride=2, padding=1) / 4


@pytest.mark.parametrize("size", [(2, 2), (8, 8), (10, 6), (6, 14)])
@pytest.mark.parametrize("rows", [1, 3, 100])
@torch.no_grad()
def test_matrix_products_in_bands_are_the_formula(size, rows, monkeypatch):
    generator = torch.Generator().manual_seed(size[0] + rows)
    features = torch.randn(3, 5, *size, generator=generator)
    mask = torch.zeros(3, 1, 4 * size[0], 4 * size[1])
    for sample in range(1, 3):
        mask[sample, :, 5 * sample : 5 * sample + 9, 3 * sample : 3 * sample + 8] = 1
    count = size[0] * size[1] // 4
    monkeypatch.setattr(contextual_attention, "BAND_VALUES", rows * 3 * size[1] // 2 * count)
    ours = ContextualAttention()(features, mask)
    truth = torch.cat([formula(features[i : i + 1], mask[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(8, 4), (64, 16), (12, 12), (2, 1), (130, 65)])
def test_downsampling_has_aligned_corners(n, m):
    line = torch.arange(float(n)).view(1, 1, 1, n).expand(1, 1, n, n)
    assert pick(line, (m, m))[0, 0, 0].tolist() == rows_picked(n, m)


def test_a_large_picture_stays_within_its_memory():
    """All scores of 1024x1024 at once would be a gigabyte, several times over. Narrow, to be quick."""
    assert peak_growth("deepfill-v2", 1024, width=2) < 1e9


@torch.no_grad()
def test_the_fill_follows_a_sketch_inside_the_hole_alone():
    torch.manual_seed(1)
    net = models.create("deepfill-v2", width=8).eval()
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 20:44, 20:44] = 1
    sketch = torch.zeros(1, 1, 64, 64)
    sketch[..., 2:6, :] = 1
    without = net(image, mask)
    assert torch.equal(net(image, mask, sketch), without)
    sketch[..., 30, 20:44] = 1
    assert not torch.equal(net(image, mask, sketch), without)


@pytest.mark.parametrize("kind", [PaddedConv, GatedConv])
def test_a_layer_on_doubled_pixels_is_the_layer_after_doubling(kind):
    torch.manual_seed(4)
    layer, x = kind(5, 4), torch.randn(2, 5, 7, 6)
    plain = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(layer.doubled(x), plain, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer.doubled(x), plain.detach(), rtol=1e-5, atol=1e-5)
