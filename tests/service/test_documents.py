"""What the documents say to run runs; what would take long, or fetch, is at least understood."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from service import cli
from tests.service.browser import browsing
from tests.service.server import Server
from tests.service.test_serve import photo, square_hole

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
}
SERVED = ("README.md", "api.md", "python.md")  # whose examples run
EXAMPLE = "http://127.0.0.1:8000"
AT_ONCE = ("inpaint", "upscale", "batch", "models")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[name], re.DOTALL | re.MULTILINE)


def numbered(language: str, pattern: str = r"(?s).+") -> list[pytest.param]:
    """What of the blocks is like the pattern."""
    return [
        pytest.param(found, id=f"{name}-{number}")
        for name in SERVED
        for number, found in enumerate(
            match.group() for block in blocks(name, language) for match in re.finditer(pattern, block)
        )
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo(120, 160)).save(tmp_path / "photo.jpg")
    Image.fromarray(square_hole(120, 160, 20)).save(tmp_path / "mask.png")
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", numbered("python"))
def test_python_runs(code, page_server: Server, folder):
    exec(compile(code.replace(EXAMPLE, page_server.url), "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("command", numbered("sh") + numbered("", r"(?m)^curl (?:.*\\\n)*.*$"))
def test_curl_runs(command, page_server: Server, folder):
    command = command.replace("width=1920", "width=480")  # the pictures here are small ones
    script = f'set -eo pipefail; curl() {{ command curl -sSf "$@"; }}\n{command}'
    done = subprocess.run(
        ["bash", "-c", script.replace(EXAMPLE, page_server.url)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for name in re.findall(r"-o (\S+)", command):
        assert (folder / name).stat().st_size > 100


# A picture that is its own mask: white, and bright enough for a hole, in a square.
DRAWN = """
  const canvas = new OffscreenCanvas(40, 30), pen = canvas.getContext("2d");
  pen.fillRect(0, 0, 40, 30); pen.fillStyle = "#fff"; pen.fillRect(9, 9, 9, 9);
  const sheet = await canvas.convertToBlob();
"""


@pytest.mark.parametrize("code", numbered("js"))
def test_javascript_runs(code, page_server: Server, tmp_path):
    with browsing(tmp_path) as page:
        page.open(page_server.url)
        assert (
            page.run(f"(async () => {{ {code}; {DRAWN} return (await fill('', sheet, sheet)).type }})()")
            == "image/png"
        )


COMMANDS = sorted(
    {
        (name in SERVED, words)
        for name, text in TEXTS.items()
        for block in re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for words in re.findall(r"^(?:\w+=\S+ )*(?:\.venv/bin/)?retouch ([^#\n]+)", block, re.MULTILINE)
    }
)


@pytest.mark.parametrize(("served", "line"), COMMANDS)
def test_commands_are_understood_and_run(served, line, folder, capsys):
    words = shlex.split(line)
    if served and words[0] in AT_ONCE:
        assert cli.main(words) == 0
    elif words[0] in cli.ELSEWHERE:
        importlib.import_module(cli.ELSEWHERE[words[0]][0]).build_parser("retouch").parse_args(words[1:])
    else:
        cli.build_parser(words[0]).parse_args(words)
