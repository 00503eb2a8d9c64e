"""The same answers from another runtime."""

from __future__ import annotations

import numpy as np
import pytest

from service.engine.catalogue import Catalogue
from service.engine.residency import warm_window
from service.engine.runtimes.onnx_runtime import OnnxRuntime
from service.engine.runtimes.torch_runtime import TorchRuntime
from service.engine.windows import InpaintWindow
from tests.service.pictures import noise
from tests.service.toys import ToyFill, install_toys


@pytest.fixture
def onnx(monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path, backend="onnx")
    return OnnxRuntime(settings), Catalogue(settings, "cpu"), TorchRuntime(settings)


@pytest.mark.parametrize("model", ["toy-fill", "toy-enlarge"])
def test_onnx_answers_as_torch_does(onnx, model):
    runtime, catalogue, reference = onnx
    window = warm_window(catalogue, model)
    expected = reference.load(catalogue.entry(model)).run([window] * 3)
    resident = runtime.load(catalogue.entry(model))
    assert resident.bytes > 0
    for answer, wanted in zip(resident.run([window] * 3), expected, strict=True):
        assert np.abs(answer.astype(int) - wanted).max() <= 1


def test_other_sizes_and_sketches_are_served_too(onnx):
    runtime, catalogue, _ = onnx
    resident = runtime.load(catalogue.entry("toy-fill"))
    hole = np.ones((40, 56), np.uint8)
    window = InpaintWindow(noise(40, 56), hole, np.ones((40, 56), np.uint8))
    assert (resident.run([window])[0] == 0).all()
    assert resident.run([InpaintWindow(noise(40, 56), hole)])[0].shape == (40, 56, 3)


def test_a_network_that_cannot_be_exported_runs_in_torch(onnx, monkeypatch, caplog):
    runtime, catalogue, _ = onnx
    plain = ToyFill.forward

    def by_value(self, image, mask, sketch=None):
        """Which way it goes depends on the pixels, which a trace cannot hold."""
        return plain(self, image, mask) * (2 if image[0, 0, 0, 0] > image[0, 0, 0, -1] else 1)

    monkeypatch.setattr(ToyFill, "forward", by_value)
    resident = runtime.load(catalogue.entry("toy-fill"))
    assert isinstance(resident.net, ToyFill)
    assert "does not export" in caplog.text
