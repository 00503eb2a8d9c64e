"""The wheel has all that it needs, and works from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from service import __version__
from tests.service.test_serve import photo, square_hole

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel installs, and nothing beside it."""
    folder = tmp_path_factory.mktemp("wheel")
    # Of a copy: what an earlier build left in the tree would be taken for a part of it.
    for name in ("service", "models", "weights"):
        shutil.copytree(ROOT / name, folder / "tree" / name, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder]
    made = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", *options, folder / "tree"],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    [wheel] = folder.glob("*.whl")
    assert wheel.name.startswith(f"retouch-{__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_it_fills_a_picture_in_another_folder(unpacked, tmp_path):
    Image.fromarray(photo(40, 50)).save(tmp_path / "photo.png")
    Image.fromarray(square_hole(40, 50, 12)).save(tmp_path / "mask.png")
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    where = "import models.manifest, service; print(service.__file__, models.manifest.SHIPPED)"
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{where}; from service.cli import main; main('inpaint photo.png mask.png -o o.png'.split())",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.count(str(unpacked)) == 2
    with Image.open(tmp_path / "o.png") as filled:
        assert filled.size == (50, 40)


def test_it_has_the_page_and_the_catalogue(unpacked):
    for name in (
        "service/web/index.html",
        "models/checkpoints/catalogue.toml",
        "models/weights/manifest.toml",
    ):
        assert (unpacked / name).is_file()
