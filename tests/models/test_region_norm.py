"""Region normalisation as its definition has it, one picture and one region at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.layers.region_norm import GivenRegionNorm, region_norm


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_each_region_is_normalised_by_itself(share: float) -> None:
    generator = torch.Generator().manual_seed(int(10 * share))
    x = 3 + torch.randn(2, 4, 6, 8, generator=generator)
    region = (torch.rand(2, 1, 6, 8, generator=generator) < share).float()
    answer = region_norm(x, region)
    for one, map_, ours in zip(x, region, answer, strict=True):
        truth = torch.zeros_like(one)
        for part in (map_, 1 - map_):
            count = part.sum()
            mean = (one * part).sum((1, 2), keepdim=True) / max(1, count)
            filled = one * part + mean * (1 - part)
            truth += F.batch_norm(filled[None], None, None, training=True)[0] * (count / part.numel()).sqrt()
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)


def test_both_shifts_are_added_everywhere() -> None:
    norm = GivenRegionNorm(3)
    x, mask = torch.randn(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 2:5] = 1
    before = norm(x, mask)
    torch.nn.init.constant_(norm.foreground_beta, 2.0)
    torch.nn.init.constant_(norm.background_beta, 0.5)
    torch.testing.assert_close(norm(x, mask), before + 2.5)
