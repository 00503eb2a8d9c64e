"""Every file of tests/corpus, through the public face: an answer soon, in words, and nothing else happens."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest

from models.checkpoints.command import main

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
NAMES = re.findall(r"^\| `(\S+)` \|", (CORPUS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
CHECKPOINTS = [name for name in NAMES if name.endswith((".pt", ".pth"))]
SECONDS = 20  # on a busy machine; alone it is one
MEMORY = 60e6  # bytes


def test_every_file_has_its_row():
    assert sorted(NAMES) == sorted(file.name for file in CORPUS.iterdir() if file.name != "README.md")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CHECKPOINTS])
def test_a_picture_is_refused(page_server, name):
    before, started = page_server.memory(), time.monotonic()
    files = {"image": (CORPUS / name).read_bytes()}
    answer = httpx.post(page_server.url + "/upscale?scale=1", files=files, timeout=SECONDS)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
    assert time.monotonic() - started < SECONDS
    assert page_server.memory() - before < MEMORY


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_refused(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(tmp_path / "own"))
    (tmp_path / "victim").write_bytes(b"mine")
    started = time.monotonic()
    assert main(["import", str(CORPUS / name)]) == 1
    assert name in capsys.readouterr().out
    assert time.monotonic() - started < SECONDS
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert not list((tmp_path / "own").iterdir())
