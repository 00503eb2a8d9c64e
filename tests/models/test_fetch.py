"""Public files from servers that cut, redirect, lie and stall: the right bytes, or words and nothing."""

from __future__ import annotations

import hashlib
import random
import socket
import time

import pytest

from models.checkpoints import CheckpointError, fetch
from models.checkpoints.catalogue import PublicFile
from tests.models.loopback import Site, cuts_at, plain, serve

CONTENT = random.Random(3).randbytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    monkeypatch.setattr(fetch, "SILENCE", 1.0)
    monkeypatch.setattr(fetch, "PIECE", 10_000)
    monkeypatch.delenv("RETOUCH_WEIGHTS_MIRROR", raising=False)


@pytest.fixture
def site():
    site = Site({"/net.pth": CONTENT})
    server = serve(site)
    yield site
    server.shutdown()
    server.server_close()


def the_file(site: Site, **facts) -> PublicFile:
    known = {"bytes": len(CONTENT), "sha256": SHA256} | facts
    return PublicFile((f"{site.address}/net.pth",), **known)


def fetched(site, folder, **facts) -> bytes:
    path = fetch.fetch("net", the_file(site, **facts), folder)
    assert [file.name for file in folder.iterdir()] == ["net.pth"]
    return path.read_bytes()


def refusal(site, folder, **facts) -> str:
    with pytest.raises(CheckpointError) as refused:
        fetch.fetch("net", the_file(site, **facts), folder)
    assert not (folder / "net.pth").exists()
    return str(refused.value)


def test_a_file_comes_whole(site, tmp_path):
    assert fetched(site, tmp_path) == CONTENT
    assert site.asked == [("/net.pth", None)]


def test_a_file_of_unknown_size_and_digest_comes_too(site, tmp_path):
    assert fetched(site, tmp_path, bytes=None, sha256=None) == CONTENT


def test_a_broken_fetch_goes_on_where_it_broke(site, tmp_path):
    site.behaviours = [cuts_at(0.3), cuts_at(0.7), plain]
    assert fetched(site, tmp_path) == CONTENT
    assert [range_ for _, range_ in site.asked] == [None, "bytes=120000-", "bytes=280000-"]


def test_the_next_command_goes_on_too(site, tmp_path):
    site.behaviours = [cuts_at(0.3)]
    assert "broke off" in refusal(site, tmp_path)
    site.behaviours, site.asked = [plain], []
    assert fetched(site, tmp_path) == CONTENT
    assert site.asked == [("/net.pth", "bytes=120000-")]


def test_a_file_that_changed_in_between_is_fetched_anew(site, tmp_path):
    other = bytes(reversed(CONTENT))

    def changed(handler, content):
        assert handler.headers.get("If-Range") == '"one"'
        handler.begin(200, len(other), ETag='"two"')
        handler.wfile.write(other)

    site.behaviours = [cuts_at(0.5), changed]
    assert fetched(site, tmp_path, sha256=hashlib.sha256(other).hexdigest()) == other


def test_a_server_without_ranges_sends_all_again(site, tmp_path):
    def whole(handler, content):
        handler.begin(200, len(content))
        handler.wfile.write(content)

    site.behaviours = [cuts_at(0.5), whole]
    assert fetched(site, tmp_path) == CONTENT


def test_another_part_than_asked_for_is_not_put_together(site, tmp_path):
    def shifted(handler, content):
        handler.begin(206, 10, Content_Range=f"bytes 5-14/{len(content)}", ETag='"one"')
        handler.wfile.write(content[5:15])

    site.behaviours = [cuts_at(0.5), shifted, plain]
    assert fetched(site, tmp_path) == CONTENT
    site.behaviours = [shifted]
    (tmp_path / "net.pth").unlink()
    assert "another part" in refusal(site, tmp_path)


def test_a_range_that_leads_nowhere_begins_anew(site, tmp_path):
    site.behaviours = [cuts_at(0.5), lambda handler, content: handler.begin(416, 0), plain]
    assert fetched(site, tmp_path) == CONTENT


def test_redirects_are_followed_to_an_end(site, tmp_path):
    def onward(handler, content):
        handler.begin(302, 0, Location="/net.pth?again")

    site.files["/net.pth?again"] = CONTENT
    site.behaviours = [onward, onward, plain]
    assert fetched(site, tmp_path) == CONTENT
    site.behaviours = [onward]
    (tmp_path / "net.pth").unlink()
    assert "more than 5 redirects" in refusal(site, tmp_path)


def test_a_redirect_off_the_web_is_not_followed(site, tmp_path):
    site.behaviours = [lambda handler, content: handler.begin(302, 0, Location="file:///etc/passwd")]
    assert "no address of the web" in refusal(site, tmp_path)


@pytest.mark.parametrize("length", [10, 400_001, 1 << 50])
def test_another_size_is_refused_before_anything_is_read(site, tmp_path, length):
    site.behaviours = [lambda handler, content: handler.begin(200, length)]
    assert f"{length} bytes" in refusal(site, tmp_path)
    if length > fetch.MOST:
        assert "more than" in refusal(site, tmp_path, bytes=None)


def test_more_than_was_said_is_not_taken(site, tmp_path):
    def endless(handler, content):
        handler.begin(200, None)
        for _ in range(10):
            handler.wfile.write(content)

    site.behaviours = [endless]
    assert "more than the 400000 bytes" in refusal(site, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("facts", [{"sha256": "0" * 64}, {"sha256": None, "md5": "0" * 32}])
def test_another_file_is_thrown_away(site, tmp_path, facts):
    assert "another file than the catalogue's" in refusal(site, tmp_path, **facts)
    assert not list(tmp_path.iterdir())


def test_an_md5_is_enough(site, tmp_path):
    assert fetched(site, tmp_path, sha256=None, md5=hashlib.md5(CONTENT).hexdigest()) == CONTENT


def test_the_next_address_is_tried(site, tmp_path):
    site.files |= {"/wrong.pth": b"x" * len(CONTENT)}
    names = ("missing", "wrong", "net")
    file = PublicFile(tuple(f"{site.address}/{name}.pth" for name in names), len(CONTENT), SHA256)
    assert fetch.fetch("net", file, tmp_path).read_bytes() == CONTENT
    assert [path for path, _ in site.asked] == ["/missing.pth", "/wrong.pth", "/net.pth"]


def test_a_missing_file_is_said_with_its_address(site, tmp_path):
    site.files.clear()
    assert f"{site.address}/net.pth: answers 404" in refusal(site, tmp_path)


def test_a_mirror_stands_for_all_addresses(site, tmp_path, monkeypatch):
    monkeypatch.setenv("RETOUCH_WEIGHTS_MIRROR", f"{site.address}/models/")
    site.files = {"/models/net/net.pth": CONTENT}
    assert fetched(site, tmp_path) == CONTENT


def test_a_silent_server_is_not_waited_for_without_end(site, tmp_path):
    def silent(handler, content):
        handler.begin(200, len(content), ETag='"one"')
        handler.wfile.write(content[:1000])
        handler.wfile.flush()
        handler.rfile.read(1)  # until the asker goes away

    site.behaviours = [silent]
    start = time.monotonic()
    assert "broke off" in refusal(site, tmp_path)
    assert time.monotonic() - start < 30


def test_a_compressed_answer_is_refused(site, tmp_path):
    site.behaviours = [lambda handler, content: handler.begin(200, 10, Content_Encoding="gzip")]
    assert "compressed" in refusal(site, tmp_path)


def test_without_a_network_it_says_so_at_once(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    start = time.monotonic()
    file = PublicFile((f"http://127.0.0.1:{port}/net.pth",))
    with pytest.raises(CheckpointError, match="cannot be reached"):
        fetch.fetch("net", file, tmp_path)
    assert time.monotonic() - start < 10


def test_a_full_disk_is_said_before_it_is_full(site, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "ROOM", 1 << 60)
    with pytest.raises(CheckpointError, match="MB left"):
        fetch.fetch("net", the_file(site), tmp_path)
