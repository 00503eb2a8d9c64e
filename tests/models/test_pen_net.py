"""PEN-Net: its attention as matrix products equals the formula, sample by sample, in bands or at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import models
from models.layers import attention_transfer
from models.layers.attention_transfer import AttentionTransfer
from models.layers.pasting import pasted


def formula(shallow: Tensor, deep: Tensor, mask: Tensor, kernel: int) -> Tensor:
    """As the public code states it: patches of one sample are the filters of a convolution."""
    small = F.interpolate(mask, deep.shape[-2:], mode="bilinear", align_corners=True)
    answers = []
    for i in range(deep.shape[0]):
        one, raw = deep[i : i + 1], shallow[i : i + 1]
        pad = kernel // 2
        filters = F.unfold(one, kernel, padding=pad)[0].T.reshape(-1, deep.shape[1], kernel, kernel)
        length = filters.flatten(1).norm(dim=1).clamp(min=1e-4)
        usable = F.unfold(small[i : i + 1], kernel, padding=pad)[0].mean(0) == 0
        usable = usable.to(deep.dtype)[None, :, None, None]
        scores = F.conv2d(one, filters / length[:, None, None, None], padding=pad) * usable
        weights = (torch.softmax(10 * scores, 1) * usable).clamp(min=1e-8)
        pieces = F.unfold(raw, 4, stride=2, padding=1)[0].T.reshape(-1, shallow.shape[1], 4, 4)
        answers.append(F.conv_transpose2d(weights, pieces, stride=2, padding=1) / 4)
    return torch.cat(answers)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(5, 7), (8, 6), (1, 1)])
def test_matrix_products_are_the_formula(kernel, size, monkeypatch):
    generator = torch.Generator().manual_seed(kernel + size[1])
    height, width = size
    deep = torch.randn(3, 5, height, width, generator=generator)
    shallow = torch.randn(3, 4, 2 * height, 2 * width, generator=generator)
    mask = torch.zeros(3, 1, 8 * height, 8 * width)
    mask[0, :, : 3 * height, : 4 * width] = 1
    mask[1, :, -2 * height :] = 1
    mask[2] = 1  # nothing is known: finite all the same
    transfer = AttentionTransfer(kernel)
    truth = formula(shallow, deep, mask, kernel)
    torch.testing.assert_close(transfer(shallow, deep, mask), truth, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(attention_transfer, "BAND_VALUES", 3 * height * width * 2)
    torch.testing.assert_close(transfer(shallow, deep, mask), truth, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_pyramid_halves_and_begins_with_the_answer():
    torch.manual_seed(1)
    net = models.create("pen-net", width=4, depth=4).eval()
    image, mask = torch.rand(1, 3, 32, 48), torch.zeros(1, 1, 32, 48)
    mask[..., 8:20, 8:30] = 1
    pictures = net.pyramid(image, mask)
    assert [tuple(picture.shape[-2:]) for picture in pictures] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    assert torch.equal(pictures[0], net(image, mask))


def test_it_has_the_published_size():
    with torch.device("meta"):
        net = models.create("pen-net")
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2) == 10.23


def test_pasting_is_folding():
    patches = torch.randn(2, 15, 48, generator=torch.Generator().manual_seed(3))
    truth = F.fold(patches.mT, (6, 10), 4, stride=2, padding=1)
    torch.testing.assert_close(pasted(patches, 3, 5), truth, rtol=1e-6, atol=1e-6)
