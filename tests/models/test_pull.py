"""`retouch weights available`, `pull` and `use`: public files as their sources write them, end to end."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from models import manifest
from models.checkpoints import catalogue, fetch, importers
from models.checkpoints.command import main
from tests.models import golden
from tests.models import test_golden as reference
from tests.models.loopback import Site, cuts_at, plain, serve

State = dict[str, Tensor]


def torch_file(content: Any, legacy: bool = False) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def torchscript(state: State) -> bytes:
    """A module tree whose state it is, traced."""
    root = nn.Module()
    for key, value in state.items():
        *path, leaf = key.split(".")
        module = root
        for name in path:
            if name not in dict(module.named_children()):
                module.add_module(name, nn.Module())
            module = module.get_submodule(name)
        module.register_buffer(leaf, value)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = root

        def forward(self, x: Tensor) -> Tensor:
            return x

    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(Whole(), torch.zeros(1)), out)
    return out.getvalue()


def lightning_in_zip(state: State) -> bytes:
    content = torch_file({"epoch": 39, "state_dict": state, "hyper_parameters": Unknown()})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("big-lama/config.yaml", "model: lama")
        packed.writestr("big-lama/models/best.ckpt", content)
    return out.getvalue()


class Unknown:
    """What training code leaves beside the weights."""


def npz(state: State) -> bytes:
    import numpy as np

    out = io.BytesIO()
    np.savez(out, **{key: value.numpy() for key, value in state.items()})
    return out.getvalue()


def two_files(state: State) -> list[bytes]:
    parts = {"edge.": {}, "inpaint.": {}}
    for key, value in state.items():
        for prefix, part in parts.items():
            if key.startswith(prefix):
                part[key.removeprefix(prefix)] = value
    return [torch_file({"iteration": 7, "generator": part}) for part in parts.values()]


# Golden folder -> how the public file of that network is written, and its name.
WRITTEN: dict[str, tuple[Callable[[State], Any], str]] = {
    "migan_small": (torchscript, "migan_traced.pt"),
    "lama_small": (lightning_in_zip, "big-lama.zip"),
    "aot_gan": (torch_file, "G0000000.pt"),
    "deepfill_v2_sketch": (lambda state: torch_file({"G": state}, legacy=True), "states_tf_places2.pth"),
    "edge_connect": (two_files, "gen.pth"),
    "meta_rdn": (npz, "model_1000.npz"),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    monkeypatch.delenv("RETOUCH_WEIGHTS_MIRROR", raising=False)


@pytest.fixture
def own(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(folder))
    return folder


@pytest.fixture
def site():
    site = Site()
    server = serve(site)
    yield site
    server.shutdown()
    server.server_close()


def offer(site: Site, tmp_path: Path, monkeypatch, architecture: str, *files: bytes, **facts: Any) -> None:
    """A catalogue of one row, `it`, whose files are served."""
    name = facts.pop("name", "net.pth")
    row = {
        "name": "it",
        "architecture": architecture,
        "licence": "MIT",
        "commercial": True,
        "good_at": "tests",
    }
    member = facts.pop("member", None)
    lines = [f"{key} = {manifest.as_toml(value)}" for key, value in (row | facts).items()]
    for number, content in enumerate(files):
        path = f"/{number}/{name}"
        site.files[path] = content
        file = {"addresses": [site.address + path], "bytes": len(content)}
        file |= {"sha256": hashlib.sha256(content).hexdigest()} | ({"member": member} if member else {})
        lines += [
            "[[checkpoint.file]]",
            *(f"{key} = {manifest.as_toml(value)}" for key, value in file.items()),
        ]
    text = "[[checkpoint]]\n" + "\n".join(lines) + "\n"
    (tmp_path / "catalogue.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path / "catalogue.toml")


def leftovers(own: Path) -> list[str]:
    return sorted(path.name for path in own.rglob("*") if path.is_file() and path.suffix != ".lock")


@pytest.mark.parametrize("folder", WRITTEN)
@torch.no_grad()
def test_a_public_file_is_pulled_and_answers_as_its_reference(folder, site, own, tmp_path, monkeypatch):
    case = next(case for case in golden.cases() if case.folder.name == folder)
    write, name = WRITTEN[folder]
    state = {key: torch.from_numpy(value) for key, value in golden.golden_state(case.about).items()}
    files = write(state)
    facts = {"member": "big-lama/models/best.ckpt"} if name.endswith(".zip") else {}
    files = files if isinstance(files, list) else [files]
    offer(site, tmp_path, monkeypatch, case.architecture, *files, name=name, **facts)
    assert main(["pull", "it"]) == 0
    entry = manifest.installed()["it"]
    assert entry.licence == "MIT"
    assert site.address in entry.source
    assert hashlib.sha256(files[0]).hexdigest() in entry.source
    assert leftovers(own) == [".lock", "it.safetensors", "manifest.toml"]
    net, arrays = models.load("it"), case.arrays()
    if entry.task == "upscale":
        reference.replay_upscale(net, arrays)
    elif folder == "edge_connect":
        reference.replay_edge_connect(net, arrays)
    elif folder == "deepfill_v2_sketch":
        reference.replay_deepfill_v2(net, arrays, case.about)
    else:
        answer = net(torch.from_numpy(arrays["image"]), torch.from_numpy(arrays["mask"]))
        truth = reference.on_our_scale(case, torch.from_numpy(arrays["output"]))
        reference.assert_close(answer, truth)


def small(seed: int = 5) -> bytes:
    torch.manual_seed(seed)
    net = models.create("srvgg", channels=4, layers=1, factor=2)
    return torch_file({"params": importers()["srvgg"].to_public(net)})


def test_a_broken_pull_lists_nothing_and_the_next_one_goes_on(site, own, tmp_path, monkeypatch, capsys):
    offer(site, tmp_path, monkeypatch, "srvgg", small())
    site.behaviours = [cuts_at(0.5)]
    assert main(["pull", "it"]) == 1
    assert "broke off" in capsys.readouterr().out
    assert "it" not in manifest.installed()
    assert not list(own.glob("*.safetensors"))
    site.behaviours, site.asked = [plain], []
    assert main(["pull", "it"]) == 0
    assert site.asked[0][1] is not None
    assert main(["verify"]) == 0
    assert main(["pull", "it"]) == 0
    assert "it is installed" in capsys.readouterr().out
    assert len(site.asked) == 1


def test_a_file_that_is_no_network_lists_nothing(site, own, tmp_path, monkeypatch, capsys):
    offer(site, tmp_path, monkeypatch, "srvgg", b"not a checkpoint" * 100)
    assert main(["pull", "it"]) == 1
    assert "it is" not in capsys.readouterr().out
    assert not manifest.read_manifest(own)
    assert not list(own.glob("*.safetensors"))


def pulls() -> None:
    raise SystemExit(main(["pull", "it"]))


def test_two_pulls_at_once_do_not_break_each_other(site, own, tmp_path, monkeypatch):
    offer(site, tmp_path, monkeypatch, "srvgg", small())
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=pulls) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(site.asked) == 1
    assert [entry.name for entry in manifest.read_manifest(own)] == ["it"]
    assert main(["verify"]) == 0


def test_a_licence_without_commercial_use_is_asked_for(site, own, tmp_path, monkeypatch, capsys):
    facts = {"licence": "CC-BY-NC-4.0", "commercial": False}
    offer(site, tmp_path, monkeypatch, "srvgg", small(), **facts)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["pull", "it"]) == 1
    assert "--accept-licence 'CC-BY-NC-4.0'" in capsys.readouterr().out
    assert main(["pull", "it", "--accept-licence", "MIT"]) == 1
    assert site.asked == []
    assert main(["pull", "it", "--accept-licence", "CC-BY-NC-4.0"]) == 0
    assert manifest.installed()["it"].licence == "CC-BY-NC-4.0"


def test_a_file_fetched_by_hand_is_taken_and_remembered(site, own, tmp_path, monkeypatch, capsys):
    text = (
        '[[checkpoint]]\nname = "it"\narchitecture = "srvgg"\nlicence = "MIT"\ncommercial = true\n'
        'good_at = "tests"\nby_hand = "the shelf"\n[[checkpoint.file]]\n'
    )
    (tmp_path / "catalogue.toml").write_text(text)
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path / "catalogue.toml")
    assert main(["pull", "it"]) == 1
    said = capsys.readouterr().out
    assert "the shelf" in said
    assert "pull it --file FILE" in said
    given = tmp_path / "mine.pth"
    given.write_bytes(small())
    assert main(["pull", "it", "--file", str(given)]) == 0
    digest = hashlib.sha256(given.read_bytes()).hexdigest()
    assert digest in capsys.readouterr().out
    assert json.loads((own / "digests.json").read_text()) == {"it/0": digest}
    assert given.exists()
    (own / "manifest.toml").unlink()
    given.write_bytes(small(6))
    assert main(["pull", "it", "--file", str(given)]) == 1
    assert "another file than the first time" in capsys.readouterr().out


def test_all_names_of_a_file_are_pulled(site, own, tmp_path, monkeypatch):
    offer(site, tmp_path, monkeypatch, "srvgg", small())
    (tmp_path / "names").write_text("# for the image\nit  # small\n\n")
    assert main(["pull", "--all-of", str(tmp_path / "names")]) == 0
    assert "it" in manifest.installed()
    (tmp_path / "names").write_text("another\n")
    assert main(["pull", "--all-of", str(tmp_path / "names")]) == 1


def test_what_is_used_answers_by_default_until_something_else_is(own, tmp_path, capsys):
    given = tmp_path / "mine.pth"
    given.write_bytes(small())
    assert main(["import", str(given), "--name", "first"]) == 0
    assert main(["import", str(given), "--name", "second"]) == 0
    shipped = manifest.default_model("upscale", "cpu")
    for name in ("first", "second", "first", shipped):
        assert main(["use", name]) == 0
        assert "upscale" in capsys.readouterr().out
        assert {manifest.default_model("upscale", device) for device in ("cpu", "cuda")} == {name}
        if name != shipped:
            assert manifest.default_model("upscale", "cpu", lossy=True) == name
    assert len(manifest.read_manifest(own)) == 2
    assert main(["use", "first"]) == 0
    assert main(["use", "patchmatch"]) == 1
    assert "ships with Retouch" in capsys.readouterr().out
    assert manifest.default_model("upscale", "cpu") == "first"
    assert main(["use", "nothing"]) == 1
    assert main(["verify"]) == 0


def test_the_catalogue_is_whole(capsys):
    assert main(["available"]) == 0
    said = capsys.readouterr().out
    for checkpoint in catalogue.read_catalogue().values():
        assert checkpoint.name in said
        assert checkpoint.licence in said
        assert checkpoint.file
        for file in checkpoint.file:
            assert bool(file.addresses) != bool(checkpoint.by_hand)
            assert all(address.startswith("https://") for address in file.addresses)
            assert file.sha256 or file.md5 or checkpoint.by_hand
            assert file.sha256 is None or len(file.sha256) == 64
            assert file.md5 is None or len(file.md5) == 32
    known = {name.replace("_", "-") for name in importers()}
    assert {checkpoint.architecture for checkpoint in catalogue.read_catalogue().values()} <= known
