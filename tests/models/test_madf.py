"""MADF: filters that are another at every point, without any of them, and within bounded memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import models
from models.checkpoints import importers, load_public
from models.checkpoints.madf import emitting
from models.layers.dynamic import DynamicConv
from tests.models.memory import peak_growth


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", [(8, 12), (2, 4)])
def test_mixed_convolutions_are_the_filters_of_every_point(kernel, size):
    torch.manual_seed(kernel)
    height, width = size
    conv = DynamicConv(entering=4, leaving=6, kernel=kernel, hidden=5)
    x, mixture = torch.randn(2, 4, height, width), torch.rand(2, 5, height // 2, width // 2)
    # As the paper says it: a 1x1 convolution emits a filter (entering * kernel^2, leaving) for every point.
    both = emitting(conv.banks.weight, 6)
    filters = F.conv2d(mixture, both[:, :-1, None, None], both[:, -1])
    filters = filters.view(2, -1, 6, filters.shape[-2] * filters.shape[-1])
    windows = F.unfold(x, kernel, stride=2, padding=kernel // 2)
    truth = torch.einsum("bkcl,bkl->bcl", filters, windows).view(2, 6, *mixture.shape[-2:])
    torch.testing.assert_close(conv(x, mixture), truth, rtol=1e-4, atol=1e-5)


def test_a_window_fits_into_600_mb():
    """The full network at 512 x 512; with filters for every point it takes 2 GB."""
    assert peak_growth("madf", 512) < 600e6


def test_it_has_the_published_sizes():
    with torch.device("meta"):
        nets = [models.create("madf", refinements=count) for count in (2, 1, 0)]
    count = [sum(parameter.numel() for parameter in net.parameters()) / 1e6 for net in nets]
    assert count == pytest.approx([85.14, 62.94, 40.74], abs=0.006)


@torch.inference_mode()
def test_a_released_file_holds_more_than_the_network():
    torch.manual_seed(2)
    net = models.create("madf", width=4, levels=3, hidden=3, refinements=1).eval()
    state = {f"module.model.{key}": value for key, value in importers()["madf"].to_public(net).items()}
    state["module.extractor.enc_1.0.weight"] = torch.zeros(4, 3, 3, 3)
    image, mask = torch.rand(1, 3, 16, 24), torch.zeros(1, 1, 16, 24)
    mask[..., 4:9, 3:12] = 1
    again = load_public("madf", {"model": state, "n_iter": 7})
    torch.testing.assert_close(again(image, mask), net(image, mask), rtol=1e-5, atol=1e-5)
    assert [tuple(picture.shape) for picture in net.stages(image, mask)] == [(1, 3, 16, 24)] * 2
