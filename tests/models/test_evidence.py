"""What a picture itself says of its hole: repetition and contours."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from models.inpainting.contours import continued
from models.inpainting.guided_patchmatch import added, informed
from models.inpainting.offsets import repeated
from models.layers.smooth import blur

repeating, continuing = partial(added, repeated), partial(added, continued)


@pytest.fixture
def mask():
    mask = torch.zeros(1, 1, 160, 176)
    mask[..., 60:100, 50:110] = 1
    return mask


@pytest.fixture
def tiles():
    """An uneven pattern, repeated every 28 rows and 24 columns."""
    tile = blur(torch.rand(1, 3, 28, 24, generator=torch.Generator().manual_seed(5)), 1.0, border="circular")
    return (3 * (tile - 0.5) + 0.5).clamp(0, 1).repeat(1, 1, 6, 8)[..., :160, :176]


@pytest.fixture
def noise():
    return torch.rand(1, 3, 160, 176, generator=torch.Generator().manual_seed(6))


def below_line():
    """How many rows each pixel lies below a slanting line."""
    rows, columns = torch.meshgrid(torch.arange(160.0), torch.arange(176.0), indexing="ij")
    return rows - 70 - columns / 8


@pytest.fixture
def shore():
    return (0.8 - 0.5 * torch.sigmoid(below_line())).expand(1, 3, -1, -1).clone()


def error(guide, truth, where):
    return (guide - truth).abs().amax(1, True)[where].mean()


def test_what_repeats_itself_goes_on_in_the_hole(tiles, mask):
    grey = torch.full_like(tiles, 0.5)
    guide = torch.where(mask > 0, grey, tiles)
    assert error(repeating(guide, tiles, mask), tiles, mask > 0) < 0.2 * error(guide, tiles, mask > 0)


def test_a_contour_goes_on_in_the_hole(shore, mask):
    middle = (mask > 0) & (below_line().abs() < 4)
    guide = torch.where(mask > 0, torch.full_like(shore, 0.55), shore)
    assert error(continuing(guide, shore, mask), shore, middle) < 0.3 * error(guide, shore, middle)


def test_what_gives_no_evidence_leaves_the_guide_alone(noise, mask):
    guide = torch.full_like(noise, 0.5)
    assert error(repeating(guide, noise, mask), guide, mask > 0) < 0.02
    flat = torch.full_like(noise, 0.7)
    assert torch.equal(continuing(guide, flat, mask), guide)
    assert torch.equal(repeating(guide, flat, mask), guide)


def test_only_contours_with_equal_sides_are_joined(shore, mask):
    turned = torch.where(torch.arange(176) < 80, shore, 1.1 - shore)
    guide = torch.full_like(shore, 0.5)
    assert not torch.equal(continuing(guide, shore, mask), guide)
    assert torch.equal(continuing(guide, turned, mask), guide)


@pytest.mark.parametrize("add", [repeating, continuing])
def test_nothing_else_is_seen_or_changed(add, tiles, shore, mask):
    pictures, holes = torch.cat([tiles, shore]), torch.cat([mask, mask.roll(8, 2)])
    guide = torch.full_like(pictures, 0.5)
    together = add(guide, pictures, holes)
    for sample in range(2):
        alone = add(guide[[sample]], (pictures * (1 - holes))[[sample]], holes[[sample]])
        assert torch.equal(together[[sample]], alone)
    assert torch.equal(together[(holes == 0).expand_as(guide)], guide[(holes == 0).expand_as(guide)])


@pytest.mark.parametrize("add", [repeating, continuing])
@pytest.mark.parametrize("size", [(16, 16), (17, 300)])
def test_pictures_of_which_nothing_is_left_have_no_evidence(add, size):
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(7))
    guide = torch.full_like(picture, 0.5)
    assert torch.equal(add(guide, picture, torch.ones(1, 1, *size)), guide)


def test_a_sketch_in_the_hole_is_not_gainsaid(tiles, mask):
    pictures, masks = tiles.repeat(2, 1, 1, 1), mask.repeat(2, 1, 1, 1)
    guide, sketch = torch.full_like(pictures, 0.5), torch.zeros_like(masks)
    sketch[0, :, :50], sketch[1, :, 80] = 1, 1  # beyond the hole, and through it
    beyond, through = informed(guide, pictures, masks, sketch)
    assert torch.equal(beyond, informed(guide[:1], tiles, mask)[0])
    assert not torch.equal(beyond, guide[0])
    assert torch.equal(through, guide[1])
