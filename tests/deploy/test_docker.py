"""What the images promise, as far as it shows without building them; `make container-test` builds them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def requirements(what: str) -> list[str]:
    command = [sys.executable, str(ROOT / "docker" / "requirements.py"), what]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_libraries_are_those_of_the_project():
    [torch] = requirements("torch")
    assert re.fullmatch(r"torch==[\d.]+", torch)
    for extra, runtime in (("cpu", "onnxruntime>"), ("gpu", "onnxruntime-gpu>")):
        listed = requirements(extra)
        assert torch in listed
        assert any(line.startswith("fastapi") for line in listed)
        assert any(line.startswith(runtime) for line in listed)


def test_a_broken_weights_file_fails_the_build(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.safetensors").write_bytes(b"half a file")
    (tmp_path / "manifest.toml").write_text(
        '[[model]]\nname = "broken"\narchitecture = "meta-sr-small"\nlicence = "none"\n'
        f'file = "broken.safetensors"\nsha256 = "{"0" * 64}"\n'
    )
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(tmp_path))
    assert main(["models", "--warm"]) == 1
    assert "broken.safetensors does not match its digest" in capsys.readouterr().err
