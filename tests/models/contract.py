"""What every inpainter promises, for networks that have test modules of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import models
from models import registry
from tests.models.exporting import answered, exported


def make(name: str, **arguments: Any) -> Any:
    torch.manual_seed(7)
    return models.create(name, **arguments).eval()


def pictures(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Noise on waves, and a hole for each sample."""
    generator = torch.Generator().manual_seed(height + width)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack([torch.sin(rows / 5), torch.cos(columns / 7), torch.sin((rows + columns) / 9)])
    image = 0.5 + 0.3 * waves + 0.2 * (torch.rand(batch, 3, height, width, generator=generator) - 0.5)
    mask = torch.zeros(batch, 1, height, width)
    for sample in range(batch):
        top, left = height // 4 + sample, width // 3 - 2 * sample
        mask[sample, :, top : top + height // 3, left : left + width // 4] = 1
    return image, mask


def sizes(net: Any) -> tuple[int, int]:
    return net.minimum + net.multiple, net.minimum + 2 * net.multiple


@torch.inference_mode()
def answers_alike_in_any_batch(net: Any) -> None:
    image, mask = pictures(3, *sizes(net))
    together = net(image, mask)
    alone = torch.cat([net(image[i : i + 1], mask[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def is_blind_to_the_hole(net: Any) -> None:
    image, mask = pictures(2, *sizes(net))
    assert torch.equal(net(image * (1 - mask) + 0.3 * mask, mask), net(image, mask))
    assert not torch.equal(net(image.flip(3), mask), net(image, mask))


@torch.inference_mode()
def keeps_its_size_rule(name: str, net: Any) -> None:
    for height, width in ((net.minimum, net.minimum + net.multiple), (net.minimum + 2 * net.multiple,) * 2):
        image, mask = pictures(1, height, width)
        assert net(image, mask).shape == image.shape
    entry, default = registry.get(name), models.create(name)
    assert entry.build.sides == default.sides
    assert entry.build.window == default.window


@torch.inference_mode()
def is_finite_without_anything_known_and_without_a_hole(net: Any) -> None:
    image, mask = pictures(2, *sizes(net))
    for hole in (torch.ones_like(mask), torch.zeros_like(mask)):
        assert net(image, hole).isfinite().all()


@torch.inference_mode()
def differs_from_its_export_by(net: Any) -> Tensor:
    """Absolute differences at two shapes other than the traced one, as one flat tensor."""
    step = net.multiple
    session = exported(net, *pictures(2, *sizes(net)))
    differences = []
    for batch, height, width in (
        (1, net.minimum + 2 * step, net.minimum + step),
        (3, net.minimum, net.minimum + 3 * step),
    ):
        inputs = pictures(batch, height, width)
        differences.append((answered(session, *inputs) - net(*inputs)).abs().flatten())
    return torch.cat(differences)


@torch.inference_mode()
def stages_end_with_the_answer(net: Any) -> None:
    image, mask = pictures(2, *sizes(net))
    stages = net.stages(image, mask)
    assert {tuple(stage.shape) for stage in stages} == {tuple(image.shape)}
    assert torch.equal(stages[-1], net(image, mask))


@torch.inference_mode()
def uses_a_sketch_inside_the_hole_alone(net: Any) -> None:
    image, mask = pictures(1, *sizes(net))
    outside, inside = torch.zeros_like(mask), torch.zeros_like(mask)
    outside[..., :2, :] = 1
    row = int(mask[0, 0].sum(1).argmax())
    inside[..., row + 2, :] = 1
    without = net(image, mask)
    assert torch.equal(net(image, mask, outside), without)
    assert not torch.equal(net(image, mask, inside), without)


def every_parameter_learns(net: nn.Module) -> None:
    image, mask = pictures(2, *sizes(net))
    answers = net.train().stages(image, mask)  # type: ignore[operator]
    sum(answer.square().mean() for answer in answers).backward()
    assert not [key for key, parameter in net.named_parameters() if parameter.grad is None]


def a_few_steps_lower_the_loss(net: nn.Module, rate: float, steps: int = 8) -> None:
    image, mask = pictures(2, *sizes(net))
    optimiser = torch.optim.Adam(net.train().parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        answers = net.stages(image, mask)  # type: ignore[operator]
        loss = torch.stack([(answer - image).abs().mean() for answer in answers]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
