"""What sets the public layouts of one network apart, beyond the names that a round trip shows."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import models
from models.checkpoints import importers, load_public
from models.inpainting.context_encoder import HOLE


def example(side: int) -> tuple[Tensor, Tensor]:
    image, mask = torch.rand(1, 3, side, side), torch.zeros(1, 1, side, side)
    mask[..., side // 3 : 2 * side // 3, : side // 2] = 1
    return image, mask


def made(name: str, **arguments: Any) -> Any:
    torch.manual_seed(11)
    return models.create(name, **arguments).eval()


@torch.inference_mode()
def test_the_centre_model_answers_for_the_middle_half() -> None:
    net, (image, mask) = made("context-encoder", width=4, bottleneck=8), example(128)
    answer = net(image, mask)
    middle = torch.zeros(1, 1, 128, 128, dtype=torch.bool)
    middle[..., 32:96, 32:96] = True
    colour = torch.tensor(HOLE).view(1, 3, 1, 1)
    given = torch.where(mask > 0, colour, image)
    torch.testing.assert_close(answer * ~middle, given * ~middle)
    assert not torch.isclose(answer, given)[middle.expand_as(answer)].any()


@torch.inference_mode()
def test_gcpr_reads_files_that_number_their_blocks() -> None:
    net, inputs = made("gcpr", side=32, width=8), example(32)
    public = importers()["gcpr"].to_public(net)
    older = {
        re.sub(
            r"(basic_block|skip_connection)(\d+)",
            lambda found: f"{found[1]}{int(found[2]).bit_length() - 3}",
            key.replace("from_rgb.0.", "encoder.from_rgb.conv.layers.0."),
        ): value
        for key, value in public.items()
    }
    older["decoder.to_rgb.weight"] = torch.zeros(3, 8, 1, 1)
    again = load_public("gcpr", {"running_average_generator": {"parameters": older}, "G": public})
    torch.testing.assert_close(again(*inputs), net(*inputs))


@torch.inference_mode()
def test_glcic_takes_the_mean_colour_of_another_file() -> None:
    inputs = example(16)
    for layout in ("official", "relu-first"):
        net = made("glcic", width=16, layout=layout, mean=[0.1, 0.2, 0.3])
        public = importers()["glcic"].to_public(net)
        given = load_public("glcic", public, mean=[0.1, 0.2, 0.3])
        torch.testing.assert_close(given(*inputs), net(*inputs))
        assert not torch.equal(load_public("glcic", public)(*inputs), net(*inputs))


@torch.inference_mode()
def test_what_training_leaves_in_a_graph_is_no_weight() -> None:
    for name, slot in (
        ("hifill", "generator/re_dil_d1/w/Adam_1"),
        ("region-wise", "inpaint_net/conv1_1/kernel/Adam"),
    ):
        net, inputs = made(name, width=4), example(80)
        rest = {slot: torch.zeros(1), "discriminator/conv1/w": torch.zeros(1), "beta1_power": torch.zeros(())}
        again = load_public(name, importers()[name].to_public(net) | rest)
        torch.testing.assert_close(again(*inputs), net(*inputs), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_mat_drops_the_masks_that_its_file_holds() -> None:
    net, inputs = made("mat", side=128, width=4, tokens=6, blocks=[1, 2, 1, 1, 1]), example(128)
    public = importers()["mat"].to_public(net)
    public["synthesis.first_stage.tran.1.blocks.1.attn_mask"] = torch.zeros(4, 256, 256)
    public["synthesis.dec.Dec_16x16.toRGB.conv.resample_filter"] = torch.zeros(4, 4)
    torch.testing.assert_close(load_public("mat", public)(*inputs), net(*inputs), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_only_a_file_with_a_mean_style_can_be_truncated() -> None:
    inputs = example(16)
    with_mean, without = (made("comodgan", side=16, width=8, layout=name) for name in ("migan", "official"))
    assert not torch.equal(with_mean(*inputs, truncation_psi=0.5), with_mean(*inputs))
    with pytest.raises(ValueError, match="no mean style"):
        without(*inputs, truncation_psi=0.5)
