"""LaMa: the transform by matrices is the transform, in every network and in an export."""

from __future__ import annotations

import pytest
import torch

import models
from models.checkpoints import importers, load_public, recognise
from models.layers.fourier import matrix_from_frequencies, matrix_to_frequencies


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (12, 5), (1, 6), (2, 1), (64, 96)])
def test_the_matrices_are_the_transform(size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    truth = torch.fft.rfft2(x, norm="ortho")
    real, imaginary = matrix_to_frequencies(x)
    torch.testing.assert_close(torch.complex(real, imaginary), truth, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(matrix_from_frequencies(real, imaginary, x), x, rtol=1e-5, atol=2e-5)


def test_the_inverse_takes_any_frequencies():
    """A network's frequencies are no picture's: the parts that a real picture cannot have are left out."""
    generator = torch.Generator().manual_seed(2)
    for size in ((6, 8), (5, 7)):
        real, imaginary = torch.randn(2, 1, 4, size[0], size[1] // 2 + 1, generator=generator)
        truth = torch.fft.irfft2(torch.complex(real, imaginary), s=size, norm="ortho")
        found = matrix_from_frequencies(real, imaginary, torch.empty(1, 4, *size))
        torch.testing.assert_close(found, truth, rtol=1e-5, atol=2e-5)


def test_big_lama_has_the_published_size():
    with torch.device("meta"):
        big, paper = models.create("lama"), models.create("lama", blocks=9)
    count = [round(sum(p.numel() for p in net.parameters()) / 1e6, 2) for net in (big, paper)]
    assert count == [50.98, 27.05]


def test_bfloat16_keeps_its_transforms_precise():
    torch.manual_seed(3)
    net = models.create("lama", width=8, blocks=1).eval()
    image, mask = torch.rand(1, 3, 32, 40), torch.zeros(1, 1, 32, 40)
    mask[..., 8:20, 8:20] = 1
    with torch.inference_mode():
        truth = net(image, mask)
        half = net.bfloat16()(image.bfloat16(), mask.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - truth).abs().max() < 0.05


FILES = {
    "lightning": lambda state: {
        "epoch": 39,
        "state_dict": {f"generator.model.{key}": value for key, value in state.items()}
        | {"discriminator.model0.0.weight": torch.zeros(2), "loss_resnet_pl.mean": torch.zeros(2)},
    },
    "torchscript": lambda state: {f"model.model.{key}": value for key, value in state.items()},
    "torchscript of a training module": lambda state: {
        f"model.generator.model.{key}": value for key, value in state.items()
    },
    "arrays": lambda state: {f"generator.model.{key}": value.numpy() for key, value in state.items()},
}


@pytest.mark.parametrize("file", FILES)
@torch.inference_mode()
def test_public_files_of_every_kind(file):
    torch.manual_seed(5)
    net = models.create("lama", width=8, blocks=1).eval()
    prefix = "generator.model."
    state = {key.removeprefix(prefix): value for key, value in importers()["lama"].to_public(net).items()}
    public = FILES[file](state)
    assert recognise(public) == "lama"
    image, mask = torch.rand(1, 3, 16, 24), torch.zeros(1, 1, 16, 24)
    torch.testing.assert_close(load_public("lama", public)(image, mask), net(image, mask))
