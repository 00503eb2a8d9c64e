"""guided-patchmatch: structure's colours, the picture's own texture; and structure's contract."""

from __future__ import annotations

import pytest
import torch

import models
from models import manifest
from models.inpainting.guided_patchmatch import deep, meeting, textured
from models.layers.smooth import blur

NAMES = ["structure", "guided-patchmatch"]


def make(name):
    torch.manual_seed(3)
    return models.create(name, widths=[8, 8, 8], blocks=1).eval()


@pytest.fixture
def striped():
    """Stripes, darker on the left half than on the right."""
    columns = torch.arange(96)
    line = 0.3 * ((columns // 3) % 2) + 0.2 + 0.4 * (columns >= 48)
    return line.view(1, 1, 1, 96).expand(1, 3, 96, 96).clone()


@pytest.fixture
def mask():
    mask = torch.zeros(1, 1, 96, 96)
    mask[..., 30:62, 34:66] = 1
    return mask


def test_the_fill_has_the_guides_colours_and_the_pictures_texture(striped, mask):
    guide = blur(striped, 4.0)
    filled = textured(guide, striped, mask)
    inside = mask.bool().expand_as(filled)
    assert (blur(filled, 4.0) - guide)[..., 36:56, 40:60].abs().mean() < 0.05
    assert filled[inside].std() > 0.8 * striped[inside].std()
    assert torch.equal(filled[~inside], striped[~inside])


def test_deep_inside_copies_stay_as_they_are(striped):
    mask = torch.zeros(1, 1, 96, 96)
    mask[..., 8:88, 8:88] = 1
    guessed = deep(mask)
    assert guessed.max() == 1
    assert guessed[..., 8:16, :].max() == guessed[..., :8].max() == 0
    line = torch.zeros_like(mask)
    line[..., 48, :] = 1
    assert deep(mask, line)[..., 40:57, :].max() == 0
    guide = torch.full_like(striped, 0.9)
    plain, kept = textured(guide, striped, mask), textured(guide, striped, mask, guessed)
    middle = (guessed == 1).expand_as(plain)
    assert plain[middle].mean() > 0.85
    assert kept[middle].max() <= striped.max() + 1e-6
    rim = (guessed == 0).expand_as(plain)
    assert torch.equal(plain[rim], kept[rim])


@torch.no_grad()
def test_a_scratch_is_nowhere_deep():
    mask = torch.zeros(1, 1, 96, 96)
    mask[..., 30:46, 10:80] = 1
    assert deep(mask).max() == 0


def test_scratches_are_filled_with_texture_too(striped):
    mask = torch.zeros(1, 1, 96, 96)
    mask[..., 30:36, 10:80] = 1
    filled = textured(blur(striped, 4.0), striped, mask)
    inside = mask.bool().expand_as(filled)
    assert filled[inside].std() > 0.8 * striped[inside].std()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_answers_depend_on_nothing_else(name):
    net = make(name)
    generator = torch.Generator().manual_seed(2)
    image, masks = torch.rand(3, 3, 64, 48, generator=generator), torch.zeros(3, 1, 64, 48)
    for sample in range(3):
        masks[sample, :, 10 : 30 + sample, 8 * sample + 4 : 8 * sample + 20] = 1
    together = net(image, masks)
    alone = torch.cat([net(image[i : i + 1], masks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    blind = net(image * (1 - masks), masks)
    inside = masks.bool().expand_as(image)
    assert torch.equal(together[inside], blind[inside])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_sketch_counts_inside_the_hole_alone(name):
    net = make(name)
    image, mask, sketch = torch.rand(1, 3, 48, 48), torch.zeros(1, 1, 48, 48), torch.zeros(1, 1, 48, 48)
    mask[..., 12:36, 12:36] = 1
    without = net(image, mask)
    sketch[..., 2:6, :] = 1
    assert torch.equal(net(image, mask, sketch), without)
    sketch[..., 24, 12:36] = 1
    assert not torch.equal(net(image, mask, sketch), without)


def test_both_ship_in_one_file():
    structure, guided = (manifest.load(name).state_dict() for name in NAMES)
    assert guided.keys() == structure.keys()
    assert all(torch.equal(guided[key], value) for key, value in structure.items())


def test_a_drawing_meets_what_surrounds_the_hole(mask):
    image = torch.linspace(0.2, 0.8, 96).view(1, 1, 1, 96).expand(1, 3, 96, 96)
    darker = meeting(image - 0.1, image, mask)
    torch.testing.assert_close(darker, image, rtol=0, atol=1e-4)
    assert torch.equal(meeting(image, image, mask), image)


@torch.no_grad()
def test_large_pictures_are_drawn_small_and_textured_at_full_size():
    rows, columns = torch.meshgrid(torch.arange(800), torch.arange(640), indexing="ij")
    checks = (0.2 + 0.6 * ((rows // 3 + columns // 3) % 2)).expand(1, 3, -1, -1).clone()
    mask = torch.zeros(1, 1, 800, 640)
    mask[..., 300:500, 200:400] = 1
    net = make("guided-patchmatch")
    assert net.drawn(checks, mask, None, 800 / 512).shape == checks.shape
    inside = mask.bool().expand_as(checks)
    filled = textured(blur(checks, 8.0), checks, mask, factor=800 / 512)
    assert filled[inside].std() > 0.7 * checks[inside].std()
