"""`retouch doctor`: what it finds on a processor, and that a bare GPU machine can ask it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from service.doctor import command, gpu
from service.doctor.models import Patient, patients
from tests.service.conftest import free_port
from tests.service.toys import install_toys


@pytest.fixture(autouse=True)
def toys_alone(monkeypatch, tmp_path):
    """The models that ship take seconds each."""
    monkeypatch.setattr("models.manifest.SHIPPED", tmp_path)


def examined(capsys: pytest.CaptureFixture[str], settings, **options) -> tuple[int, dict[str, list[dict]]]:
    arguments = {"json": True, "quick": False, "output": None} | options
    status = command.examine(argparse.Namespace(**arguments), settings)
    rows: dict[str, list[dict]] = {}
    for row in json.loads(capsys.readouterr().out):
        rows.setdefault(row["about"], []).append(row)
    return status, rows


def test_a_sound_machine_is_told_what_it_has(capsys, monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path)
    status, rows = examined(capsys, settings, output=tmp_path / "doctor.md")
    assert status == 0
    assert {"machine", "weights", "device", "memory", "disk", "open files"} <= rows.keys()
    for model in ("toy-fill", "toy-enlarge"):
        (row,) = rows[model]
        assert row["grade"] == "ok"
        assert row["numbers"]["largest"] == 0
    assert "| ok | toy-fill |" in (tmp_path / "doctor.md").read_text()


def test_what_is_broken_is_a_fault_and_what_could_be_better_an_advice(capsys, monkeypatch, tmp_path):
    url = f"redis://127.0.0.1:{free_port()}/0"
    settings = install_toys(monkeypatch, tmp_path, host="0.0.0.0", redis_url=url, pixel_budget=10**12)
    row = 'name = "toy-enlarge"\nfile = "gone.safetensors"\nsha256 = "1"\n'
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('name = "toy-enlarge"\n', row))
    status, rows = examined(capsys, settings)
    assert status == 1
    grades = {about: [row["grade"] for row in found] for about, found in rows.items()}
    assert grades["weights of toy-enlarge"] == grades["toy-enlarge"] == ["fault"]
    assert grades["RETOUCH_REDIS_URL"] == ["fault"]
    assert grades["RETOUCH_API_KEYS"] == grades["memory"] == ["advice"]
    assert grades["toy-fill"] == ["ok"]


def test_a_device_that_is_not_there_is_a_fault(capsys, monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path).model_copy(update={"device": "cuda"})
    status, rows = examined(capsys, settings)
    assert status == 1
    assert "GPUs are to be seen" in rows["device"][0]["text"]


def test_redis_that_would_lose_works_is_a_fault(capsys, monkeypatch, tmp_path, redis_server):
    settings = install_toys(monkeypatch, tmp_path, redis_url=redis_server.url)
    assert examined(capsys, settings)[0] == 0
    subprocess.run(
        ["redis-cli", "-p", str(redis_server.port), "config", "set", "maxmemory-policy", "allkeys-lru"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    status, rows = examined(capsys, settings)
    assert status == 1
    assert "evicts" in rows["RETOUCH_REDIS_URL"][-1]["text"]


def test_proofs_that_need_no_gpu_hold_on_a_processor(monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path)
    monkeypatch.setattr(gpu, "LOADED_SECONDS", 0.1)
    monkeypatch.setattr(gpu, "CALLERS", (2,))
    assert {finding.grade for finding in gpu.under_load(settings)} == {"ok"}
    assert {finding.grade for finding in gpu.rounding(settings)} == {"ok"}
    names = [patient.name for patient in patients(settings) if isinstance(patient, Patient)]
    assert {"toy-fill", "toy-enlarge"} <= set(names)


def test_a_bare_machine_can_ask():
    """Nothing of the service's libraries is there but torch, numpy, Pillow, safetensors and OpenCV."""
    missing = ("pydantic", "pydantic_settings", "fastapi", "starlette", "redis", "prometheus_client", "httpx")
    code = f"import sys; sys.modules.update(dict.fromkeys({missing}))\n"
    code += "from service.doctor.command import bare_settings, findings\n"
    code += "from service.doctor import machine\n"
    code += "print(machine.device(bare_settings()).grade, len(list(machine.weights(bare_settings()))))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["ok", "1"]
