"""Files made to harm whoever imports them: refused within bounds, in words, and nothing of them runs."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch

from models.checkpoints import CheckpointError
from models.checkpoints.command import main
from models.checkpoints.files import read_public
from models.checkpoints.isolated import converted


def refusal(file: Path, **options) -> str:
    """What is said, which must not take longer than a start of the reader and a few seconds."""
    start = time.monotonic()
    with pytest.raises(CheckpointError) as refused, converted(file, **options):
        pass
    assert time.monotonic() - start < 60
    said = str(refused.value)
    assert len(said) < 600
    return said


def reading(file: Path) -> str:
    """The same of a file that its reader sees through by itself, without a process of its own."""
    with pytest.raises(CheckpointError) as refused:
        read_public(file)
    return str(refused.value)


class Writes(torch.nn.Module):
    """Overwrites the file `victim` of the working directory as soon as TorchScript loads it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(3))

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.training = state[1]
        self.weight = torch.from_file("victim", shared=True, size=4, dtype=torch.uint8)
        self.weight.fill_(65)


class Loops(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(3))

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.weight = state[0]
        self.training = state[1]
        while True:
            pass


def test_a_script_that_writes_a_file_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim"
    torch.jit.script(Writes()).save(str(tmp_path / "net.pt"))
    victim.write_bytes(b"mine")
    assert "weights" in refusal(tmp_path / "net.pt")
    assert victim.read_bytes() == b"mine"
    torch.jit.load(str(tmp_path / "net.pt"))
    assert victim.read_bytes() == b"AAAA"  # what happens to whoever does run it


def test_a_script_that_never_ends_is_not_run(tmp_path):
    torch.jit.script(Loops()).save(str(tmp_path / "net.pt"))
    refusal(tmp_path / "net.pt")


def checkpoint(folder: Path, change=None, **members: bytes) -> Path:
    """A torch checkpoint written anew, member by member; `change` may alter each before it is written."""
    plain = io.BytesIO()
    torch.save({"weight": torch.arange(6.0)}, plain)
    file = folder / "net.pth"
    with zipfile.ZipFile(plain) as given, zipfile.ZipFile(file, "w") as out:
        for member in given.infolist():
            content = members.get(Path(member.filename).name, given.read(member))
            info = zipfile.ZipInfo(member.filename)
            if change:
                info = change(info)
            out.writestr(info, content)
    return file


def test_a_checkpoint_written_anew_is_read(tmp_path):
    assert read_public(checkpoint(tmp_path))["weight"].tolist() == list(range(6))


def test_a_bomb_is_not_unpacked(tmp_path):
    def compressed(info):
        if info.filename.endswith("data/0"):
            info.compress_type = zipfile.ZIP_DEFLATED
        return info

    zeros = bytes(300 << 20)
    told = tensor_of(len(zeros) // 4, (len(zeros) // 4,), (1,))
    file = checkpoint(tmp_path, compressed, **{"data.pkl": told, "0": zeros})
    assert file.stat().st_size < 1 << 20
    assert "compressed" in reading(file)


def test_members_that_lie_over_each_other_are_not_read(tmp_path):
    file = tmp_path / "net.pth"
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("net/data/0", bytes(1 << 20))
        first = out.getinfo("net/data/0")
        for number in range(1, 2000):
            copied = zipfile.ZipInfo(f"net/data/{number}")
            copied.header_offset, copied.CRC = first.header_offset, first.CRC
            copied.file_size = copied.compress_size = first.file_size
            out.filelist.append(copied)
        out.writestr("net/data.pkl", pickle.dumps({}))
    assert "larger than the file" in reading(file)


def test_arrays_that_unpack_to_too_much_are_not_read(tmp_path):
    file = tmp_path / "net.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("weight.npy", bytes(64 << 20))
    assert "unpacked" in reading(file)


@pytest.mark.parametrize("name", ["../../outside", "/outside", "net/data/../../outside", "net\\..\\outside"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    def moved(info):
        info.filename = name if info.filename.endswith("/version") else info.filename
        return info

    with pytest.raises(CheckpointError, match="leads elsewhere"):
        read_public(checkpoint(tmp_path, moved))


def test_links_and_doubled_names_are_refused(tmp_path):
    def linked(info):
        if info.filename.endswith("/version"):
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
        return info

    with pytest.raises(CheckpointError, match="link"):
        read_public(checkpoint(tmp_path, linked))

    file = checkpoint(tmp_path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as out:
        out.writestr(out.namelist()[0], b"again")
    with pytest.raises(CheckpointError, match="twice"):
        read_public(file)


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_a_command_does_not(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Runs()}, tmp_path / "net.pth", _use_new_zipfile_serialization=not legacy)
    refusal(tmp_path / "net.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Runs()))
    reading(tmp_path / "bare.pth")
    assert not (tmp_path / "ran").exists()


def tensor_of(storage_count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A data.pkl whose one tensor says so of itself."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def numbers(*values: int) -> bytes:
        return b"".join(b"L%dL\n" % value for value in values)

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += numbers(storage_count) + b"tQ"
    shape = b"(" + numbers(*size) + b"t(" + numbers(*stride) + b"t"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers(offset) + shape + b"\x89}tR"
    return b"\x80\x02}" + text("weight") + call + b"s."


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ((1 << 60, (6,), (1,)), "not 1152921504606846976 numbers"),
        ((6, (1 << 40,), (0,)), "beyond its storage"),
        ((6, (6,), (1,), 3), "beyond its storage"),
        ((6, (6,), (-1,)), "makes no sense"),
        ((6, (2, 3), (1,)), "makes no sense"),
    ],
)
def test_a_tensor_that_lies_about_itself_is_not_read(tmp_path, said, words):
    with pytest.raises(CheckpointError, match=words):
        read_public(checkpoint(tmp_path, **{"data.pkl": tensor_of(*said)}))


def test_the_same_tensor_told_truly_is_read(tmp_path):
    content = tensor_of(6, (2, 2), (3, 1), 1)
    assert read_public(checkpoint(tmp_path, **{"data.pkl": content}))["weight"].tolist() == [[1, 2], [4, 5]]


def test_a_pickle_that_asks_for_memory_gets_none(tmp_path):
    """It numbers a remembered object so high that the list of them would take 32 GB."""
    assert "MB" in refusal(checkpoint(tmp_path, **{"data.pkl": b"\x80\x02}r\xff\xff\xff\x7f."}))


def test_containers_in_each_other_without_end_are_refused(tmp_path):
    content = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."  # a dict that holds itself
    assert "nested" in reading(checkpoint(tmp_path, **{"data.pkl": content}))


def test_a_key_that_counts_a_thousand_million_blocks_builds_none(tmp_path):
    file = tmp_path / "net.pth"
    keys = ("999999999.conv1.ffc.convg2g.fu.conv_layer.weight", "1.ffc.convl2l.weight")
    keys += ("4.ffc.convl2l.weight", "4.ffc.convl2g.weight")
    torch.save({key: torch.zeros(1, 1, 1, 1) for key in keys}, file)
    assert "MB" in refusal(file)


def test_a_header_of_two_to_the_sixty_is_refused(tmp_path):
    file = tmp_path / "net.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    assert "net.safetensors" in reading(file)


def test_what_is_no_file_is_refused_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RETOUCH_WEIGHTS_DIR", str(tmp_path / "own"))
    os.mkfifo(tmp_path / "pipe.pth")
    assert main(["import", str(tmp_path / "pipe.pth")]) == 1
    assert "not a file" in capsys.readouterr().out
    assert main(["import", "/dev/zero"]) == 1
    assert "not a file" in capsys.readouterr().out
    assert not list((tmp_path / "own").iterdir())
