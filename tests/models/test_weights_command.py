"""`retouch weights`: a public file goes in, a model comes out; nothing else gets in."""

from __future__ import annotations

import os
import pickle
import tomllib

import pytest
import torch

import models
from models import manifest
from models.checkpoints import importers
from models.checkpoints.command import main
from models.checkpoints.files import read_public


@pytest.fixture
def own(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(folder))
    return folder


@pytest.fixture
def net():
    torch.manual_seed(5)
    return models.create("deepfill-v2", width=4, sketch=False).eval()


@pytest.fixture
def public(tmp_path, net):
    file = tmp_path / "states_tf_places2.pth"
    torch.save({"G": importers()["deepfill-v2"].to_public(net)}, file)
    return file


def answer(net):
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(1, 3, 32, 32, generator=generator), torch.zeros(1, 1, 32, 32)
    mask[..., 8:20, 8:20] = 1
    with torch.no_grad():
        return net(image, mask)


def test_a_public_checkpoint_becomes_a_model(own, public, net, capsys):
    assert main(["import", str(public), "--name", "my-places2", "--licence", "CC BY-NC 4.0"]) == 0
    row = tomllib.loads((own / "manifest.toml").read_text())["model"][0]
    assert row["architecture"] == "deepfill-v2"
    assert row["arguments"] == {"width": 4, "sketch": False}
    assert row["licence"] == "CC BY-NC 4.0"
    assert torch.equal(answer(models.load("my-places2")), answer(net))
    assert main(["verify"]) == 0
    assert main(["list"]) == 0
    assert "my-places2" in capsys.readouterr().out
    assert main(["import", str(public), "--name", "my-places2"]) == 1
    assert "already" in capsys.readouterr().out


def test_a_file_that_changed_is_never_loaded(own, public, capsys):
    assert main(["import", str(public), "--name", "mine"]) == 0
    content = bytearray((own / "mine.safetensors").read_bytes())
    content[-1] ^= 1
    (own / "mine.safetensors").write_bytes(content)
    assert main(["verify"]) == 1
    assert "digest" in capsys.readouterr().out
    with pytest.raises(manifest.WeightsError, match="digest"):
        models.load("mine")


class Runs:
    def __reduce__(self):
        return (print, ("this must not be run",))


def test_tensors_are_taken_out_of_files_that_carry_more(tmp_path, capsys):
    file = tmp_path / "last.ckpt"
    state = {"weight": torch.arange(6.0).view(2, 3), "half": torch.ones(2).half()}
    torch.save({"state_dict": state, "hyper_parameters": Runs(), "callbacks": {Runs: 1}}, file)
    read = read_public(file)["state_dict"]
    assert torch.equal(read["weight"], state["weight"])
    assert torch.equal(read["half"], state["half"])
    assert capsys.readouterr().out == ""


def test_a_modules_own_state_is_read_as_modules_give_it(tmp_path, net):
    file, state = tmp_path / "net.pth", net.state_dict()
    assert hasattr(state, "_metadata")
    torch.save({"params_ema": state}, file)
    read = read_public(file)["params_ema"]
    assert list(read) == list(state)
    assert all(torch.equal(read[key], value) for key, value in state.items())


@pytest.mark.parametrize("kind", ["noise", "pickle", "safetensors"])
def test_a_file_of_another_kind_is_one_clear_error(own, tmp_path, capsys, kind):
    file = tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pth")
    file.write_bytes(pickle.dumps([1, 2]) if kind == "pickle" else b"noise" * 100)
    assert main(["import", str(file)]) == 1
    assert file.name in capsys.readouterr().out


def test_a_traced_network_is_read(own, tmp_path, net):
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for key, value in importers()["deepfill-v2"].to_public(net).items():
                self.register_buffer(key.replace(".", "_"), value)

        def forward(self, x):
            return x

    file = tmp_path / "net.pt"
    torch.jit.trace(Wrapped(), torch.zeros(1)).save(str(file))
    assert "conv1_conv_weight" in read_public(file)


def test_export_writes_a_network_that_answers_alike(own, public, net, tmp_path):
    import onnxruntime

    assert main(["import", str(public), "--name", "mine"]) == 0
    assert main(["export", "mine", "--onnx", str(tmp_path / "mine.onnx")]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "mine.onnx"), providers=["CPUExecutionProvider"])
    image, mask = torch.rand(1, 3, 40, 32), torch.zeros(1, 1, 40, 32)
    mask[..., 8:20, 8:20] = 1
    with torch.no_grad():
        truth = net(image, mask)
    (ours,) = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
    torch.testing.assert_close(torch.from_numpy(ours), truth, rtol=1e-3, atol=1e-3)


def test_without_a_folder_it_says_what_to_set(public, monkeypatch, capsys):
    monkeypatch.delenv("RETOUCH_WEIGHTS_DIR", raising=False)
    assert main(["import", str(public)]) == 1
    assert "RETOUCH_WEIGHTS_DIR" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read_for_ever(own, public, capsys, kind):
    assert main(["import", str(public), "--name", "mine"]) == 0
    path = own / "mine.safetensors"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert main(["verify"]) == 1
    assert "mine.safetensors is not a file" in capsys.readouterr().out
