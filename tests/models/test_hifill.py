"""HiFill: its shared attention as the formulas say it, and residuals of large pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import models
from models.layers.patch_transfer import aggregated, transferred
from models.layers.tensorflow_resize import bilinear
from tests.models import golden


@pytest.mark.parametrize(("step", "side", "before"), [(2, 3, 0), (4, 8, 2), (8, 16, 4)])
def test_a_map_is_rebuilt_from_its_patches(step: int, side: int, before: int) -> None:
    generator = torch.Generator().manual_seed(step)
    height, width = 3, 4
    features = torch.randn(2, 3, step * height, step * width, generator=generator)
    weights = torch.rand(2, 12, 12, generator=generator)
    after = side - step - before
    padded = F.pad(features, (before, after, before, after))
    truth = []
    for one, weight in zip(padded, weights, strict=True):
        filters = F.unfold(one[None], side, stride=step)[0].T.reshape(12, 3, side, side)
        full = F.conv_transpose2d(weight.T.view(1, 12, height, width), filters, stride=step)
        stop = (before + step * height, before + step * width)
        truth.append(full[..., before : stop[0], before : stop[1]])
    torch.testing.assert_close(transferred(features, weights, step), torch.cat(truth), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("length", "count"), [(4, 8), (8, 4), (5, 7), (1, 3)])
def test_resizing_has_no_shift(length: int, count: int) -> None:
    x = torch.randn(1, 1, length, 2, generator=torch.Generator().manual_seed(count))
    answer = bilinear(x, (count, 2))
    for row in range(count):
        place = row * length / count
        first = int(place)
        after = min(first + 1, length - 1)
        truth = x[..., first, :] + (x[..., after, :] - x[..., first, :]) * (place - first)
        torch.testing.assert_close(answer[..., row, :], truth, rtol=1e-5, atol=1e-6)


def cells(picture: Tensor, cell: int) -> Tensor:
    """(rows, columns, C, cell, cell) of (1, C, H, W)."""
    return picture[0].unfold(1, cell, cell).unfold(2, cell, cell).permute(1, 2, 0, 3, 4)


AGGREGATIONS = [file for folder in golden.golden_dirs() for file in folder.glob("hifill/aggregation/*.npz")]


@pytest.mark.parametrize("file", AGGREGATIONS, ids=lambda file: file.stem)
def test_residuals_are_put_together_as_the_reference_does(file: object) -> None:
    case = np.load(file)  # type: ignore[call-overload]
    residual, truth = (
        torch.from_numpy(case[name]).permute(2, 0, 1)[None] for name in ("residual", "aggregated")
    )
    cell = 16 * int(case["multiple"])
    ours = aggregated(residual, torch.from_numpy(case["attention"]), cell)[0]
    torch.testing.assert_close(ours, cells(truth, cell).flatten(0, 1), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_large_picture_keeps_its_own_detail() -> None:
    """Where every known patch is the same, any attention over them gives just that."""
    torch.manual_seed(5)
    net = models.create("hifill", width=4).eval()
    multiple, cell = 2, 32
    tile = torch.rand(1, 3, cell, cell)
    image, mask = tile.repeat(1, 1, 8, 8), torch.zeros(1, 1, 8 * cell, 8 * cell)
    mask[..., 3 * cell : 4 * cell, 3 * cell : 4 * cell] = 1
    small = F.avg_pool2d(image, multiple)
    (_, answer), weights = net.attending(small, F.max_pool2d(mask, multiple))
    found = net.large(image, mask, multiple) - bilinear(answer, (8 * cell, 8 * cell))
    inside = found[..., 3 * cell : 4 * cell, 3 * cell : 4 * cell]
    share = weights[0, 3 * 8 + 3].sum()
    # At the picture's border the enlargement is clamped; such patches differ by a row and a column.
    detail = (image - bilinear(small, (8 * cell, 8 * cell)))[..., :cell, :cell]
    torch.testing.assert_close(
        inside[..., : cell - 1, : cell - 1], share * detail[..., : cell - 1, : cell - 1], rtol=1e-3, atol=1e-4
    )
    assert not found[..., : 3 * cell, :].any()
    assert share > 0
