"""foreground-aware: its losses against the paper's formulas, its lessons, and the inpainters' contract."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import models
from models.inpainting.foreground_aware import joined
from models.layers.canny import grown
from models.training.foreground_aware import ContourLessons, Curriculum
from models.training.losses.contour import contour_content, contours_content, images_content
from tests.models import contract

WIDTHS = [[8, 8, 8], [8, 8, 8]]


def transcribed(contour, truth, hole, weight):
    """Equation (1) as it is written, pixel by pixel."""
    inside = outside = 0.0
    pixels = list(zip(*(x.flatten().tolist() for x in (contour, truth, hole)), strict=True))
    for drawn, true, missing in pixels:
        entropy = -(true * math.log(drawn) + (1 - true) * math.log(1 - drawn))
        inside += missing * (drawn - true) ** 2 * entropy
        outside += (1 - missing) * (drawn - true) ** 2 * entropy
    return weight / len(pixels) * inside + outside / len(pixels)


@pytest.fixture
def contours():
    chance = torch.Generator().manual_seed(5)
    coarse, refined = (3 * torch.randn(2, 1, 4, 5, generator=chance) for _ in range(2))
    truth, hole = ((torch.rand(2, 1, 4, 5, generator=chance) < 0.4).float() for _ in range(2))
    return coarse, refined, truth, hole


def test_the_contours_losses_are_the_papers(contours):
    coarse, refined, truth, hole = contours
    each = [transcribed(logits.sigmoid(), truth, hole, 5.0) for logits in (coarse, refined)]
    assert contour_content(coarse, truth, hole, 5.0).item() == pytest.approx(each[0], rel=1e-5)
    assert contours_content(coarse, refined, truth, hole, 5.0).item() == pytest.approx(sum(each), rel=1e-5)


def test_contours_beyond_doubt_cost_something_finite():
    logits, truth = torch.tensor([[[[80.0, -80.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    assert contour_content(logits, truth, torch.zeros_like(truth), 5.0).item() == pytest.approx(80)


def test_the_images_loss_is_the_papers():
    coarse, refined, truth = (
        torch.tensor([x]).view(1, 1, 1, 2) for x in ([0.1, 0.5], [0.4, 0.2], [0.3, 0.9])
    )
    assert images_content(coarse, refined, truth).item() == pytest.approx((0.2 + 0.4 + 0.1 + 0.7) / 2)


@pytest.fixture
def net():
    return contract.make("foreground-aware", contours=WIDTHS, images=WIDTHS)


def test_the_contract(net):
    contract.answers_alike_in_any_batch(net)
    contract.is_blind_to_the_hole(net)
    contract.keeps_its_size_rule("foreground-aware", net)
    contract.is_finite_without_anything_known_and_without_a_hole(net)
    contract.stages_end_with_the_answer(net)
    contract.uses_a_sketch_inside_the_hole_alone(net)


def test_the_export_answers_alike(net):
    assert contract.differs_from_its_export_by(net).max() < 1e-3


def test_everything_learns(net):
    contract.every_parameter_learns(net)


def test_its_file_stays_small():
    parameters = sum(parameter.numel() for parameter in models.create("foreground-aware").parameters())
    assert 2 * parameters < 6e6


def test_contours_outside_the_hole_are_those_found_and_sketches_are_kept(net):
    image, mask = contract.pictures(2, 32, 48)
    sketch = torch.zeros_like(mask)
    sketch[..., 14, :] = 1
    given = net.given(image, mask, sketch)
    contour = joined(net.contours(image, mask, given)[1], given, mask)
    found = net.given(image, mask)
    assert found.any()
    assert not (found * mask).any()
    assert torch.equal(contour * (1 - mask), found * (1 - mask))
    assert (contour[(sketch * mask) > 0] == 1).all()
    assert ((contour * mask > 0) & (contour < 1)).any()


def test_edges_grow_to_their_eight_neighbours():
    edges = torch.rand(2, 1, 9, 7, generator=torch.Generator().manual_seed(1)) < 0.1
    assert torch.equal(grown(edges).float(), F.max_pool2d(edges.float(), 3, 1, 1))


@pytest.fixture
def lessons(net):
    return ContourLessons(Curriculum(apart=2, joint=4, critic_width=2), net)


@pytest.mark.parametrize(("step", "reached", "critic"), [(0, False, 0.0), (2, False, 0.01), (4, True, 0.05)])
def test_lessons_follow_each_other(lessons, step, reached, critic):
    """Until the last, contours do not learn from pictures; the critic counts from the second on."""
    image, mask = contract.pictures(2, 64, 64)
    optimiser = torch.optim.SGD(lessons.critic.parameters(), 0.1)
    before = [parameter.clone() for parameter in lessons.critic.parameters()]
    taught = lessons.teach(image, mask, None, step, optimiser)
    sum(answer.square().mean() for answer in taught.pictures).backward()
    learnt = [parameter.grad is not None for parameter in lessons.net.contour_refined.parameters()]
    assert all(learnt) if reached else not any(learnt)
    assert lessons.curriculum.critic(step) == critic
    assert (taught.losses["contour_adversarial"] != 0) == (critic > 0)
    moved = [not torch.equal(old, new) for old, new in zip(before, lessons.critic.parameters(), strict=True)]
    assert any(moved) == (critic > 0)


def test_pictures_are_first_completed_without_contours(lessons):
    image, mask = contract.pictures(1, 64, 64)
    sketch = torch.ones_like(mask)
    optimiser = torch.optim.SGD(lessons.critic.parameters(), 0.1)
    for step, alike in ((0, True), (2, False)):
        without, along = (lessons.teach(image, mask, drawn, step, optimiser) for drawn in (None, sketch))
        assert torch.equal(without.pictures[-1], along.pictures[-1]) == alike


def test_the_contours_of_a_batch_can_be_learnt(lessons):
    image, mask = contract.pictures(2, 64, 64)
    critic = torch.optim.SGD(lessons.critic.parameters(), 0.0)
    optimiser = torch.optim.Adam(lessons.net.parameters(), 5e-3)
    costs = []
    for _ in range(25):
        cost = lessons.teach(image, mask, None, 0, critic).losses["contours"]
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        costs.append(cost.item())
    assert costs[-1] < 0.7 * costs[0]


def test_lessons_are_for_networks_with_contours():
    with pytest.raises(ValueError, match="foreground-aware"):
        ContourLessons(Curriculum(), models.create("structure", widths=[8, 8, 8], blocks=1))
