"""Public files over HTTP: resumed where they broke off, bounded in every way, checked before they are opened.

What has arrived lies in a folder until it is complete, with a note of what the server called it: the next try
asks for the rest, and gets the whole where the file has changed since.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoints.catalogue import PublicFile
from models.checkpoints.importer import CheckpointError
from models.checkpoints.own import sha256_of

if TYPE_CHECKING:
    import httpx

CONNECTING = 10.0  # seconds
SILENCE = 30.0  # seconds without a byte
TRIES = 5  # in a row that bring less than a piece
PAUSE = 1.0  # seconds between them
REDIRECTS = 5
SLOWEST = 1024  # bytes a second, over a try that is older than SILENCE
MOST = 4 << 30  # bytes of a file whose size the catalogue does not know
ROOM = 3  # times a file's bytes: itself, and its conversion in float32
PIECE = 1 << 20
CHANGED = 416  # a range that the file does not have


class Broken(Exception):
    """The transfer ended early; what has arrived is kept."""


class Refused(Exception):
    """This address does not have the file."""


def fetch(name: str, file: PublicFile, folder: Path) -> Path:
    """The complete, checked file of checkpoint `name`, in a folder that its caller owns alone."""
    target, failures = folder / file.name, []
    for address in addresses(name, file):
        try:
            download(address, file, target)
            checked(file, target)
            return target
        except Refused as error:
            failures.append(f"{address}: {error}")
    raise CheckpointError(
        f"{name} was not fetched. {'; '.join(failures)}. Fetch it where there is a network and give it "
        f"with --file, or name a mirror in RETOUCH_WEIGHTS_MIRROR"
    )


def addresses(name: str, file: PublicFile) -> tuple[str, ...]:
    """A mirror stands for all others: whoever sets one may not be able to reach them."""
    mirror = os.environ.get("RETOUCH_WEIGHTS_MIRROR")
    return (f"{mirror.rstrip('/')}/{name}/{file.name}",) if mirror else file.addresses


def checked(file: PublicFile, path: Path) -> None:
    """What was fetched and differs from the catalogue is not kept."""
    try:
        check(file, path)
    except Refused:
        path.unlink()
        raise


def check(file: PublicFile, path: Path) -> None:
    if file.bytes not in (None, path.stat().st_size):
        raise Refused(f"{path.stat().st_size} bytes, where the catalogue says {file.bytes}")
    if file.sha256 is not None and (found := sha256_of(path)) != file.sha256:
        raise Refused(f"another file than the catalogue's: SHA-256 {found}, not {file.sha256}")
    if file.md5 is not None and (found := md5_of(path)) != file.md5:
        raise Refused(f"another file than the catalogue's: MD5 {found}, not {file.md5}")


def md5_of(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@dataclass
class Partial:
    """What has arrived of a file, and what its server said of it."""

    content: Path
    note: Path

    @classmethod
    def of(cls, target: Path) -> Partial:
        return cls(target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.note"))

    @property
    def size(self) -> int:
        return self.content.stat().st_size if self.content.exists() else 0

    def known(self) -> dict[str, Any]:
        """Nothing, where it cannot be told that the rest belongs to what is here."""
        try:
            note: dict[str, Any] = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if self.size else {}

    def drop(self) -> None:
        self.content.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def download(address: str, file: PublicFile, target: Path) -> None:
    if target.exists():
        return
    import httpx

    partial, tries = Partial.of(target), 0
    timeout = httpx.Timeout(SILENCE, connect=CONNECTING)
    with httpx.Client(follow_redirects=True, max_redirects=REDIRECTS, timeout=timeout) as client:
        while True:
            before = partial.size
            try:
                once(client, address, file, partial)
                break
            except httpx.ConnectError as error:
                raise Refused(f"cannot be reached ({error})") from error
            except httpx.TooManyRedirects as error:
                raise Refused(f"leads through more than {REDIRECTS} redirects") from error
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise Refused(f"leads to no address of the web ({error})") from error
            except (httpx.TransportError, Broken) as error:
                tries = 0 if partial.size >= before + PIECE else tries + 1
                if tries >= TRIES:
                    raise Refused(
                        f"broke off {TRIES} times in a row ({error or type(error).__name__})"
                    ) from error
                time.sleep(PAUSE)
    partial.content.replace(target)
    partial.drop()


def once(client: httpx.Client, address: str, file: PublicFile, partial: Partial) -> None:
    """One request for what is missing."""
    known = partial.known()
    if known.get("address") != address or not known.get("validator"):
        partial.drop()
        known = {}
    headers = {"Accept-Encoding": "identity"}
    if known:
        headers |= {"Range": f"bytes={partial.size}-", "If-Range": known["validator"]}
    with client.stream("GET", address, headers=headers) as answer:
        if address.startswith("https:") and any(
            each.url.scheme != "https" for each in (*answer.history, answer)
        ):
            raise Refused("leads to an address without encryption")
        if answer.status_code == CHANGED:
            partial.drop()
            raise Broken("the server has no more of the file than has arrived")
        if answer.status_code not in (200, 206):
            raise Refused(f"answers {answer.status_code} {answer.reason_phrase}".strip())
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused("is sent compressed, which was not asked for")
        total = announced(answer, partial, file)
        note = {"address": address, "validator": validator(answer)}
        partial.note.write_text(json.dumps(note), encoding="utf-8")
        append(answer, partial, total, exact=file.bytes is not None)


def validator(answer: httpx.Response) -> str:
    """What a later request can name this very file by; weak tags do not promise the same bytes."""
    tag: str = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else str(answer.headers.get("Last-Modified", ""))


def announced(answer: httpx.Response, partial: Partial, file: PublicFile) -> int | None:
    """The whole file's bytes. The partial file is emptied where the answer is not its continuation."""
    if answer.status_code == 206:
        begin, total = content_range(answer.headers.get("Content-Range", ""))
        if begin != partial.size:
            partial.drop()
            raise Broken("the server sent another part than it was asked for")
    else:
        partial.drop()
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
    if total is not None and total != (file.bytes or total):
        raise Refused(f"has {total} bytes, where the catalogue says {file.bytes}")
    if total is not None and total > MOST:
        raise Refused(f"has {total} bytes, more than a checkpoint may have")
    needed = (file.bytes or total or 0) * ROOM - partial.size
    free = shutil.disk_usage(partial.content.parent).free
    if needed > free:
        where = partial.content.parent
        raise CheckpointError(f"{where} has {free >> 20} MB left, and {needed >> 20} MB are needed")
    return file.bytes or total


def content_range(header: str) -> tuple[int, int | None]:
    """`bytes 7-11/12` as (7, 12)."""
    unit, _, rest = header.partition(" ")
    span, _, total = rest.partition("/")
    begin = span.partition("-")[0]
    if unit != "bytes" or not begin.isdigit():
        return -1, None
    return int(begin), int(total) if total.isdigit() else None


def append(answer: httpx.Response, partial: Partial, total: int | None, exact: bool) -> None:
    most, started, had = total or MOST, time.monotonic(), partial.size
    with partial.content.open("ab") as out, progress(partial.content.stem, total) as show:
        arrived = had
        for piece in answer.iter_raw():
            arrived += len(piece)
            if arrived > most:
                out.close()
                partial.drop()
                raise Refused(f"sends more than the {most} bytes that it has")
            out.write(piece)
            show(arrived)
            elapsed = time.monotonic() - started
            if elapsed > SILENCE and (arrived - had) / elapsed < SLOWEST:
                raise Broken(f"slower than {SLOWEST} bytes a second")
    if total is not None and arrived < total:
        raise Broken(f"{arrived} of {total} bytes")


@contextmanager
def progress(name: str, total: int | None) -> Iterator[Any]:
    """A line that counts, where a person watches."""
    watched = sys.stderr.isatty()

    def show(arrived: int) -> None:
        if not watched:
            return
        whole = f" of {total / 1e6:.1f}" if total else ""
        bar = f" [{'#' * (30 * arrived // total):30}]" if total else ""
        print(f"\r{name}{bar} {arrived / 1e6:.1f}{whole} MB", end="", file=sys.stderr, flush=True)

    yield show
    if watched:
        print(file=sys.stderr)
