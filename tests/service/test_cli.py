"""The command line, on real files."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from service.cli import COMMANDS, ELSEWHERE, main
from tests.service.conftest import free_port
from tests.service.engines import until
from tests.service.test_serve import photo, pixels_of, square_hole

RETOUCH = [sys.executable, "-m", "service.cli"]


@pytest.fixture
def folder(tmp_path):
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        Image.fromarray(photo(40, 50, number)).save(tmp_path / "photos" / f"{number}.png")
        Image.fromarray(square_hole(40, 50, 12)).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_inpaint_and_upscale_one_picture(folder, capsys):
    photo_path, mask = str(folder / "photos/0.png"), str(folder / "masks/0.png")
    assert main(["inpaint", photo_path, mask, "-o", str(folder / "filled.png")]) == 0
    answer, image = read(folder / "filled.png"), photo(40, 50)
    known = square_hole(40, 50, 12) == 0
    assert np.array_equal(answer[known], image[known])
    assert not np.array_equal(answer, image)
    assert main(["upscale", photo_path, "--scale", "1.5", "-o", str(folder / "large.png")]) == 0
    assert read(folder / "large.png").shape == (60, 75, 3)
    assert "75x60" in capsys.readouterr().out


def test_a_batch_resumes_and_sums_up_its_failures(folder, capsys):
    (folder / "photos/broken.png").write_bytes(b"no picture")
    command = ["batch", "inpaint", str(folder / "photos"), "--masks", str(folder / "masks")]
    command += ["-o", str(folder / "out")]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "3 done, 0 were there already, 1 failed" in said.out
    assert "broken.png" in said.err
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    (folder / "photos/broken.png").unlink()
    assert main(command) == 0
    assert "0 done, 3 were there already, 0 failed" in capsys.readouterr().out


def test_bench_measures_what_is_asked_for(capsys):
    assert main(["bench", "--model", "patchmatch", "--side", "48", "--seconds", "0"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    model, picture, latency, rate = (cell.strip() for cell in line.strip("|").split("|"))
    assert (model, picture) == ("patchmatch", "48x48")
    assert float(latency) > 0
    assert float(rate) > 0
    assert main(["bench", "--model", "none"]) == 1


def test_mistakes_are_told_in_one_line(folder, capsys):
    photo_path = str(folder / "photos/0.png")
    for wrong in (
        ["upscale", photo_path, "--scale", "9", "-o", "x.png"],
        ["upscale", str(folder / "none.png"), "--scale", "2", "-o", "x.png"],
        ["upscale", photo_path, "--scale", "2", "--model", "none", "-o", "x.png"],
    ):
        assert main(wrong) == 1
        assert capsys.readouterr().err.startswith("retouch: ")


@pytest.mark.parametrize("config", ["meta-sr-small", "structure"])
def test_a_training_that_cannot_begin_says_why_in_one_line(folder, capsys, config):
    Image.fromarray(photo(300, 300)).save(folder / "photo.jpg")
    wrong = {"meta-sr-small": ["--start", "nothing"], "structure": []}[config]
    where = ["--data", str(folder), "--output", str(folder / "run")]
    assert main(["train", f"configs/{config}.toml", *where, *wrong]) == 1
    reason = {"meta-sr-small": "no model 'nothing'", "structure": "--features"}[config]
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_models_are_listed(capsys):
    assert main(["models"]) == 0
    assert "patchmatch" in capsys.readouterr().out


def test_pictures_go_through_pipes(folder, capfdbinary, monkeypatch):
    """And the sentence that says what was done goes elsewhere."""
    for output in ("-", "/dev/stdout"):
        with (folder / "photos/0.png").open() as given:
            monkeypatch.setattr("sys.stdin", given)
            assert main(["upscale", "-", "--scale", "2", "-o", output]) == 0
        out, said = capfdbinary.readouterr()
        assert pixels_of(out).shape == (80, 100, 3)
        assert b"100x80" in said
    assert Path("/dev/stdout").is_symlink()


def test_what_is_no_regular_file_is_written_to(folder):
    """A pipe with a name, and a link: neither is replaced."""
    pipe, link = folder / "pipe", folder / "link.webp"
    os.mkfifo(pipe)
    link.symlink_to(folder / "kept.webp")
    read_from_pipe: list[bytes] = []
    reader = threading.Thread(target=lambda: read_from_pipe.append(pipe.read_bytes()))
    reader.start()
    source = str(folder / "photos/0.png")
    assert main(["upscale", source, "--scale", "1", "-o", str(pipe)]) == 0
    reader.join()
    assert np.array_equal(pixels_of(read_from_pipe[0]), photo(40, 50))
    assert pipe.is_fifo()
    assert main(["upscale", source, "--scale", "1", "-o", str(link)]) == 0
    assert link.is_symlink()
    with Image.open(folder / "kept.webp") as image:
        assert image.format == "WEBP"


@pytest.mark.parametrize(
    ("name", "format"), [("x.jpg", "JPEG"), ("x.JPEG", "JPEG"), ("x.webp", "WEBP"), ("x.png", "PNG")]
)
def test_the_format_follows_from_the_suffix(folder, name, format):
    command = ["upscale", str(folder / "photos/0.png"), "--scale", "1", "-o", str(folder / name)]
    assert main(command) == 0
    with Image.open(folder / name) as image:
        assert image.format == format
    assert main([*command, "--format", "jpg" if format == "JPEG" else format.lower()]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["upscale", "P", "--scale", "2", "-o", "F/x.xyz"], "the format follows from the suffix"),
        (["upscale", "P", "--scale", "2", "-o", "F/x"], "the format follows from the suffix"),
        (["upscale", "P", "--scale", "2", "-o", "F/x.png", "--format", "webp"], "--format says webp"),
        (["upscale", "P", "--scale", "2", "-o", "F/photos"], "is a folder|the format follows"),
        (["upscale", "P", "--scale", "2", "-o", "P/x.png"], "is no folder"),
        (["batch", "upscale", "F/photos", "--scale", "2", "-o", "P"], "is no folder"),
        (["upscale", "P", "-o", "F/x.png"], "Give either scale"),
        (["upscale", "P", "--scale", "2", "--width", "9", "-o", "F/x.png"], "Give either scale"),
        (["batch", "upscale", "F/photos", "-o", "F/out"], "Give either scale"),
        (["inpaint", "-", "-", "-o", "F/x.png"], "only one file"),
    ],
)
def test_nothing_is_computed_for_what_cannot_be_written(folder, capsys, monkeypatch, words, sentence):
    def never(*_):
        raise AssertionError("a pipeline was made")

    monkeypatch.setattr("service.local.pipeline.Pipeline", never)
    where = {"F": str(folder), "P": str(folder / "photos/0.png")}
    assert main([re.sub(r"^[FP](?=/|$)", lambda found: where[found[0]], word) for word in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(sentence, line), line


def test_a_batch_takes_pictures_alone_and_each_of_them(folder, capsys):
    for path in (folder / "photos").iterdir():
        path.unlink()
    Image.fromarray(photo(20, 20, 1)).save(folder / "photos/3.png")
    Image.fromarray(photo(20, 20, 2)).save(folder / "photos/3.bmp")
    (folder / "photos/notes.txt").write_text("no picture")
    (folder / "photos/more").mkdir()
    Image.fromarray(photo(20, 20, 3)).save(folder / "photos/more/[4].png")
    command = ["batch", "upscale", str(folder / "photos"), "--scale", "1", "-o", str(folder / "photos/out")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 done, 0 were there already, 0 failed" in said
    assert "1 files that are no pictures, 1 subfolders (--recursive" in said
    for seed, name in ((1, "3.png.png"), (2, "3.bmp.png")):
        assert np.array_equal(read(folder / "photos/out" / name), photo(20, 20, seed))
    assert main([*command, "--recursive"]) == 0
    assert "1 done, 2 were there already, 0 failed" in capsys.readouterr().out
    assert np.array_equal(read(folder / "photos/out/more/[4].png"), photo(20, 20, 3))


def test_one_mask_serves_all_and_is_resized_when_asked(folder, capsys):
    mask = folder / "mask.png"
    Image.fromarray(square_hole(20, 25, 6)).save(mask)
    command = ["batch", "inpaint", str(folder / "photos"), "--mask", str(mask), "-o", str(folder / "out")]
    command += ["--model", "patchmatch"]
    assert main(command) == 1
    assert "3 failed" in capsys.readouterr().out
    assert main([*command, "--resize-mask"]) == 0
    known = np.kron(square_hole(20, 25, 6), np.ones((2, 2), np.uint8)) == 0
    for number in range(3):
        filled, given = read(folder / f"out/{number}.png"), photo(40, 50, number)
        assert np.array_equal(filled[known], given[known])
        assert not np.array_equal(filled, given)


@pytest.mark.parametrize("command", [*COMMANDS, *ELSEWHERE])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: retouch {command}" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"retouch \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_help_imports_nothing_that_takes_long():
    code = "import sys, service.cli; sys.argv = ['retouch', '--help']\ntry: service.cli.main()\nfinally: "
    code += "print([name for name in ('torch', 'numpy', 'pydantic', 'httpx') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    "words", [["bench", "--model", "none"], ["weights", "export", "none", "--onnx", "x"]]
)
def test_an_unknown_model_is_a_sentence(capsys, words):
    assert main(words) == 1
    (line,) = "".join(capsys.readouterr()).splitlines()
    assert "none" in line


def test_a_server_announces_its_real_port_and_a_taken_one_is_a_sentence():
    serve = [*RETOUCH, "serve", "--port"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*serve, "0"], **pipes) as server:
        address = re.search(r"http://\S+:[1-9]\d*", server.stdout.readline())[0]
        assert httpx.get(address + "/healthz").status_code == 200
        ended = subprocess.run([*serve, address.rpartition(":")[2]], capture_output=True, text=True)
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert "another program listens there" in line
        server.send_signal(signal.SIGTERM)
        server.communicate()
        assert server.returncode == 0


def stopped_by_ctrl_c(command, ready):
    """What a command says when it is interrupted once it is at work."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        ready()
        process.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        _, said = process.communicate()
        assert process.returncode == 130
        assert said.splitlines()[-1] == "retouch: stopped"
        assert "Traceback" not in said
        return time.monotonic() - interrupted


def test_ctrl_c_leaves_nothing_half_written(folder):
    for number in range(400):
        Image.fromarray(photo(64, 64, number)).save(folder / f"photos/{number}.png")
    out = folder / "out"

    def some_are_done():
        until(lambda: any(out.glob("*.png")), 60)

    stopped_by_ctrl_c(
        [*RETOUCH, "batch", "upscale", str(folder / "photos"), "--scale", "3", "-o", str(out)], some_are_done
    )
    assert 0 < len(list(out.iterdir())) < 400
    for path in out.iterdir():
        assert read(path).shape == (192, 192, 3)


def test_ctrl_c_does_not_wait_for_a_server(folder):
    """One that takes what is sent and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as mute, ExitStack() as accepted:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        command = [*RETOUCH, "batch", "upscale", str(folder / "photos"), "--scale", "2", "--server", url]
        command += ["-o", str(folder / "out")]
        took = stopped_by_ctrl_c(command, lambda: accepted.enter_context(mute.accept()[0]))
    assert took < 5
    assert not (folder / "out").exists()


def test_a_dead_server_is_said_at_once_and_waited_for_when_asked(folder, capsys):
    command = ["batch", "upscale", str(folder / "photos"), "--scale", "2", "-o", str(folder / "out")]
    command += ["--server", f"http://127.0.0.1:{free_port()}"]
    started = time.monotonic()
    assert main(command) == 1
    assert time.monotonic() - started < 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "no server answers" in line
    assert "--wait" in line
    assert main([*command, "--wait", "0.1"]) == 1
    waiting, line = capsys.readouterr().err.splitlines()
    assert "trying again" in waiting
    assert "no server answers" in line
