"""The documents name what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import models
from models.checkpoints.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "weights").glob("*.md")),
]


def test_every_network_has_its_row_and_its_section():
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    for name in models.architectures():
        assert re.search(rf"^\| {name} \| ", text, re.MULTILINE), name
        assert f"\n### {name}\n" in text, name


def test_every_public_checkpoint_has_its_row_with_its_licence():
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([\w-]+) \| (.+?) \| (\w+) \| by (\w+|`pull`) \|$", text, re.MULTILINE
    )
    checkpoints = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))["checkpoint"]
    assert [row[:3] for row in rows] == [
        (each["name"], each["architecture"], each["licence"]) for each in checkpoints
    ]
    for (*_, commercial, way), each in zip(rows, checkpoints, strict=True):
        assert (commercial == "yes") == each["commercial"]
        assert (way == "hand") == ("by_hand" in each)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path):
    named = re.findall(
        r"`((?:bench|configs|docs|models|service|tests|weights)/[\w/.-]+\.\w+)`",
        path.read_text(encoding="utf-8"),
    )
    for name in named:
        assert (ROOT / name).exists(), name
