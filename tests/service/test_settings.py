"""Settings are judged at the start, and whoever mistyped one is told which and how it is written."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from models import manifest
from service.app import create_app
from service.cli import main
from service.settings import Settings, read_settings


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DEVICE", "tpu", "auto, cpu, cuda or cuda:N"),
        ("DEVICE", "cude", "did you mean 'cuda'?"),
        ("DEVICE", "cuda:x", "cuda:N"),
        ("WEIGHTS_DIR", "/nowhere/at/all", "no such folder"),
        ("REDIS_URL", "localhost:6379", "redis://HOST:PORT/NUMBER"),
        ("REDIS_URL", "redis://h:port/0", "the port"),
        ("CACHE_URL", "http://cache", "redis://HOST:PORT/NUMBER"),
        ("CALLBACK_NETWORKS", "10.1.0.0/16, 10.2.0.1/16", "host bits"),
        ("CALLBACK_NETWORKS", "intern", "'intern'"),
        ("TRUSTED_PROXIES", "the proxy", "'the proxy'"),
        ("CORS_ORIGINS", "example.org", "https://HOST"),
        ("ROOT_PATH", "retouch", "/like/this"),
        ("LOG_LEVEL", "loud", "'debug'"),
        ("PORT", "http", "valid integer"),
        ("PORT", "99999", "65535"),
        ("TIMEOUT", "0", "greater than 0"),
        ("DISPATCH", "redis", "RETOUCH_REDIS_URL"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch, capsys, variable, value, sentence):
    monkeypatch.setenv(f"RETOUCH_{variable}", value)
    assert main(["serve"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"retouch: RETOUCH_{variable}")
    assert sentence in line


def test_what_can_mean_one_thing_only_is_understood(monkeypatch):
    for name, value in {"DEVICE": "GPU:1", "LOG_LEVEL": "INFO", "REDIS_URL": "", "ROOT_PATH": "/a/"}.items():
        monkeypatch.setenv(f"RETOUCH_{name}", value)
    read = read_settings()
    assert (read.device, read.log_level, read.redis_url, read.root_path) == ("cuda:1", "info", None, "/a")


def test_unknown_settings_are_warned_of(monkeypatch, capsys):
    monkeypatch.setenv("RETOUCH_DEVISE", "cpu")
    monkeypatch.setenv("RETOUCH_XYZZY", "1")
    monkeypatch.setenv("RETOUCH_API_KEY", "read by batch")
    read_settings()
    devise, other = capsys.readouterr().err.splitlines()
    assert "RETOUCH_DEVISE" in devise
    assert "did you mean 'RETOUCH_DEVICE'?" in devise
    assert "RETOUCH_XYZZY" in other


def test_a_broken_manifest_is_a_sentence(monkeypatch, capsys, tmp_path):
    (tmp_path / "manifest.toml").write_text("[[model]\n")
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("RETOUCH_PORT", "0")
    for command in (["serve"], ["models"], ["bench"]):
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("retouch: ")


def test_a_device_that_is_not_there_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setenv("RETOUCH_DEVICE", "cuda:97")
    monkeypatch.setenv("RETOUCH_PORT", "0")
    assert main(["serve"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cuda:97" in line


def test_without_models_it_is_not_ready(monkeypatch, tmp_path):
    monkeypatch.setattr(manifest, "SHIPPED", tmp_path)
    with TestClient(create_app(Settings())) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert "no models" in response.json()["detail"]
        assert client.get("/healthz").status_code == 200
