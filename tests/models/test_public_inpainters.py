"""Inpainters with public checkpoints: small ones go out and in again, and into ONNX Runtime."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from models.checkpoints import CheckpointError, importers, load_public, recognise
from models.network import Network, SizeRule
from tests.models.exporting import answered, exported

# Two shapes of each, small enough to build in no time.
ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("aot-gan", {"width": 4, "blocks": 2, "rates": [1, 2]}),
    ("aot-gan", {"width": 6, "blocks": 11, "rates": [1, 2, 4]}),
    ("comodgan", {"side": 16, "width": 8}),
    ("comodgan", {"side": 32, "width": 4, "layout": "migan"}),
    ("context-encoder", {"width": 4, "bottleneck": 16, "centre": False}),
    ("context-encoder", {"width": 6, "bottleneck": 10}),
    ("deepfill-v1", {"width": 4}),
    ("deepfill-v1", {"width": 6, "official": False}),
    ("deepfill-v2", {"width": 4}),
    ("deepfill-v2", {"width": 6, "sketch": False}),
    ("edge-connect", {"width": 4, "blocks": 2}),
    ("edge-connect", {"width": 6, "blocks": 11}),
    ("gcpr", {"side": 32, "width": 8}),
    ("gcpr", {"side": 64, "width": 4}),
    ("glcic", {"width": 16}),
    ("glcic", {"width": 4, "layout": "relu-first"}),
    ("glcic", {"width": 6, "layout": "openmmlab"}),
    ("hifill", {"width": 4}),
    ("hifill", {"width": 6}),
    ("lama", {"width": 8, "blocks": 2}),
    ("lama", {"width": 4, "blocks": 11, "global_share": 0.5}),
    ("madf", {"width": 4, "levels": 3, "hidden": 3}),
    ("madf", {"width": 4, "levels": 4, "hidden": 5, "refinements": 0}),
    ("migan", {"resolution": 32, "width": 4, "widest": 16}),
    ("migan", {"resolution": 16, "width": 6, "widest": 6}),
    ("mat", {"side": 128, "width": 4, "tokens": 12, "blocks": [1, 2, 1, 1, 1]}),
    ("mat", {"side": 128, "width": 8, "tokens": 6, "noise": True}),
    ("partial-conv", {"width": 4, "levels": 4}),
    ("partial-conv", {"width": 2, "levels": 6}),
    ("pen-net", {"width": 4, "depth": 3}),
    ("pen-net", {"width": 8, "depth": 4}),
    ("region-norm", {"width": 4, "blocks": 2}),
    ("region-norm", {"width": 6, "blocks": 11}),
    ("region-wise", {"width": 8}),
    ("region-wise", {"width": 6}),
]
NAMES = sorted({name for name, _ in ARGUMENTS})
SMALL = dict(reversed(ARGUMENTS))


def seeded(name: str, arguments: dict[str, Any]) -> Network:
    """In eval mode, with statistics as a trained network might have them."""
    torch.manual_seed(7)
    net = models.create(name, **arguments).eval()
    for key, value in net.state_dict().items():
        if key.endswith("running_mean"):
            nn.init.normal_(value, std=0.1)
        elif key.endswith("running_var"):
            nn.init.uniform_(value, 0.8, 1.2)
    return net


def pictures(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height + width)
    image = torch.rand(batch, 3, height, width, generator=generator)
    mask = torch.zeros(batch, 1, height, width)
    for sample in range(batch):  # each its own hole
        mask[sample, :, height // 4 + sample : height // 2 + sample, sample * 5 : width // 3 + sample * 5] = 1
    return image, mask


def side(net: Any, steps: int = 0) -> int:
    """A length that the network takes, `steps` from its smallest if it takes more than one."""
    rule: SizeRule = net.sides
    return rule.maximum or rule.minimum + steps * rule.multiple


WRAPPINGS = {
    "bare": lambda state: state,
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "in a file": lambda state: {"iteration": 3, "generator": state},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS, ids=str)
@torch.inference_mode()
def test_round_trip(name: str, arguments: dict[str, Any], wrapping: str) -> None:
    net = seeded(name, arguments)
    public = WRAPPINGS[wrapping](importers()[name].to_public(net))
    assert recognise(public) == name
    again = load_public(name, public)
    inputs = pictures(2, side(net), side(net, 1))
    torch.testing.assert_close(again(*inputs), net(*inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_checkpoint_names_its_keys(name: str) -> None:
    public = importers()[name].to_public(seeded(name, SMALL[name]))
    *_, lost = (key for key in public if key.endswith(("bias", "biases")))
    del public[lost]
    stranger = f"{lost.rpartition('.')[0]}.stranger"
    public[stranger] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"misses 1 keys, first .* unexpected 1 keys, first .*stranger"):
        load_public(name, public)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_a_sample_answers_alike_in_any_batch(name: str) -> None:
    net = seeded(name, SMALL[name])
    image, mask = pictures(3, side(net, 1), side(net, 1))
    together = net(image, mask)
    for i in range(3):
        torch.testing.assert_close(
            net(image[i : i + 1], mask[i : i + 1])[0], together[i], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_what_lies_in_the_hole_is_not_seen(name: str) -> None:
    net = seeded(name, SMALL[name])
    image, mask = pictures(1, side(net, 1), side(net, 1))
    torch.testing.assert_close(net(image * (1 - mask) + 0.3 * mask, mask), net(image, mask), rtol=0, atol=0)
    assert not torch.equal(net(image * mask, mask), net(image, mask))


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_the_size_rule_is_tight(name: str) -> None:
    net = seeded(name, SMALL[name])
    rule = net.sides
    for height, width in ((side(net), side(net, 1)), (side(net, 2), side(net))):
        inputs = pictures(1, height, width)
        assert net(*inputs).shape == inputs[0].shape
    refused = {rule.minimum - rule.multiple, rule.minimum + rule.multiple - 1}
    if rule.maximum is not None:
        refused |= {rule.maximum // 2, rule.maximum * 2}
    for length in refused:
        assert not rule.accepts(length)
        assert not works(net, length)


def works(net: nn.Module, length: int) -> bool:
    inputs = pictures(1, length, length)
    try:
        return net(*inputs).shape == inputs[0].shape
    except RuntimeError:
        return False


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_an_export_answers_alike_at_any_size(name: str) -> None:
    net = seeded(name, SMALL[name])
    session = exported(net, *pictures(2, side(net, 1), side(net, 2)))
    for batch, height, width in ((1, side(net, 2), side(net, 1)), (3, side(net, 1), side(net, 3))):
        inputs = pictures(batch, height, width)
        torch.testing.assert_close(answered(session, *inputs), net(*inputs), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_half_precision_and_other_layouts_answer_alike(name: str) -> None:
    net = seeded(name, SMALL[name])
    inputs = pictures(2, side(net, 1), side(net, 1))
    truth = net(*inputs)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in inputs]
    torch.testing.assert_close(
        net.to(memory_format=torch.channels_last)(*last),  # type: ignore[call-overload]
        truth,
        rtol=1e-4,
        atol=1e-5,
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert (net(*inputs).float() - truth).abs().mean() < 0.1 * truth.std()
    halved = net.bfloat16()(*(tensor.bfloat16() for tensor in inputs))
    assert halved.dtype == torch.bfloat16
    assert (halved.float() - truth).abs().mean() < 0.1 * truth.std()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    net = seeded(name, SMALL[name]).train()
    length = net.sides.maximum or 2 * net.sides.minimum
    inputs = pictures(2, length, length)
    # PEN-Net's side outputs have a loss of their own.
    answers = getattr(net, "pyramid", None) or getattr(net, "stages", None) or (lambda *x: [net(*x)])
    sum(answer.square().mean() for answer in answers(*inputs)).backward()
    assert not [key for key, parameter in net.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_it_compiles_as_one_graph(name: str) -> None:
    """What torch.compile can take whole; the generated code itself is torch's to test."""
    net = seeded(name, SMALL[name])
    image, mask = pictures(1, side(net, 1), side(net, 1))
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image, mask), net(image, mask), rtol=1e-5, atol=1e-5)
