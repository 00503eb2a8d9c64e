"""What the images promise, as far as it shows without building them; `make container-test` builds them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from service.cli import main

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def stages() -> dict[str, list[str]]:
    """The instructions of each stage, by its name."""
    found: dict[str, list[str]] = {}
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    for instruction in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if instruction.startswith("FROM "):
            found[instruction.split()[-1]] = current = []
        elif instruction and found:
            current.append(instruction)
    return found


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_each_image_ends_as_an_unprivileged_user(target):
    assert stages()[target][-1] == "USER 10001:10001"


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_layers_come_in_the_order_in_which_they_change(target):
    copies = [line for line in stages()[target] if line.startswith("COPY")]
    order = [
        next(i for i, line in enumerate(copies) if name in line) for name in ("venv", "weights", "service")
    ]
    assert order == sorted(order)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_public_weights_come_from_a_stage_that_fetches_what_it_is_told_to(target):
    assert "COPY --from=public-weights --chown=10001:10001 /weights /weights" in stages()[target]
    stage = stages()["public-weights"]
    assert 'ARG MODELS=""' in stage
    [run] = [line for line in stage if line.startswith("RUN")]
    assert "for name in ${MODELS}; do" in run
    assert any("RETOUCH_WEIGHTS_DIR=/weights" in line for line in stages()["runtime"])


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_every_model_is_loaded_while_the_image_is_built(target):
    assert any("models --warm" in line for line in stages()[target])


def test_the_server_gets_the_signals_itself():
    runtime = stages()["runtime"]
    assert [line for line in runtime if line.startswith("ENTRYPOINT")] == [
        'ENTRYPOINT ["python", "-m", "service.cli"]'
    ]
    assert any(line.startswith("HEALTHCHECK") for line in runtime)


def test_what_is_copied_is_in_the_build_context_and_in_the_tree():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in line.split():
            assert name in kept
            assert (ROOT / name).exists()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked(name: str) -> dict[str, Version]:
    """Version of each package that the lock file pins; each has digests, and no address."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    pins = re.findall(r"^([\w.-]+)==(\S+)(.*(?:\n    .*)*)", text, re.MULTILINE)
    assert all("--hash=sha256:" in rest for _, _, rest in pins)
    return {canonicalize_name(name): Version(version) for name, version, _ in pins}


@pytest.mark.parametrize(("name", "extras"), [("cpu", "cpu otel"), ("gpu", "gpu otel"), ("dev", "dev otel")])
def test_the_lock_files_pin_what_the_project_requires(name, extras):
    pins = locked(name)
    lines = [*PROJECT["dependencies"]]
    for extra in extras.split():
        lines += PROJECT["optional-dependencies"][extra]
    for wanted in map(Requirement, lines):
        if wanted.name not in ("torch", "retouch"):
            assert pins[canonicalize_name(wanted.name)] in wanted.specifier, "run `make lock`"
    assert "torch" not in pins  # which build of it is for the machine to say
    both = locked("cpu").keys() & pins.keys()
    assert all(locked("cpu")[package] == pins[package] for package in both)


def test_torch_is_that_of_the_project():
    command = [sys.executable, str(ROOT / "docker" / "torch_version.py")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    assert said in PROJECT["dependencies"]
    assert re.fullmatch(r"torch==[\d.]+", said)


def test_the_images_say_what_is_in_them():
    for stage in ("libraries-cpu", "libraries-cuda"):
        assert any("sbom.json" in line and "--require-hashes" in line for line in stages()[stage])


def test_a_broken_weights_file_fails_the_build(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.safetensors").write_bytes(b"half a file")
    (tmp_path / "manifest.toml").write_text(
        '[[model]]\nname = "broken"\narchitecture = "meta-sr-small"\nlicence = "none"\n'
        f'file = "broken.safetensors"\nsha256 = "{"0" * 64}"\n'
    )
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(tmp_path))
    assert main(["models", "--warm"]) == 1
    assert "broken.safetensors does not match its digest" in capsys.readouterr().err
