"""A checkpoint of the catalogue becomes a model of one's own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from models.checkpoints.catalogue import PublicCheckpoint, PublicFile
from models.checkpoints.fetch import Refused, check, fetch
from models.checkpoints.importer import CheckpointError
from models.checkpoints.isolated import converted
from models.checkpoints.own import alone, has, install, sha256_of

FETCHED = ".fetched"  # folder of what is on its way, in the folder of weights
DIGESTS = "digests.json"  # SHA-256 of what came first, for files that nobody publishes one of


def pull(checkpoint: PublicCheckpoint, folder: Path, accepted: Sequence[str], given: Sequence[Path]) -> None:
    """Fetched, or taken from the files that are `given`; at once done where it is installed."""
    name = checkpoint.name
    if has(name, folder):
        print(f"{name} is installed")
        return
    if checkpoint.by_hand and not given:
        options = " ".join(["--file FILE"] * len(checkpoint.file))
        raise CheckpointError(
            f"{name} has to be fetched by hand, from {checkpoint.by_hand}. "
            f"Then: retouch weights pull {name} {options}"
        )
    if given and len(given) != len(checkpoint.file):
        raise CheckpointError(f"{name} is {len(checkpoint.file)} files, and {len(given)} are given")
    agree(checkpoint, accepted)
    arriving = folder / FETCHED / name
    arriving.parent.mkdir(exist_ok=True)
    with alone(folder / FETCHED / f"{name}.lock", f"another pull of {name} is under way; waiting for it"):
        if has(name, folder):
            print(f"{name} is installed")
            return
        arriving.mkdir(exist_ok=True)
        say(checkpoint)
        files = [taken(path) for path in given] or fetch_all(checkpoint, arriving)
        if given:
            for file, path in zip(checkpoint.file, files, strict=True):
                check_given(name, file, path)
        digests = remembered(folder, checkpoint, files)
        companion = files[1] if len(files) > 1 else None
        with converted(
            files[0],
            architecture=checkpoint.architecture,
            companion=companion,
            member=checkpoint.file[0].member,
            within=arriving,
        ) as ours:
            source = checkpoint.by_hand or checkpoint.file[0].addresses[0]
            about = {"licence": checkpoint.licence, "source": f"{source}, sha256 {', '.join(digests)}"}
            row = install(ours, name, folder, about)
        shutil.rmtree(arriving)
    print(
        f"{name}: {row['architecture']} {row['arguments']}, {row['file']}; next: retouch weights use {name}"
    )


def fetch_all(checkpoint: PublicCheckpoint, folder: Path) -> list[Path]:
    files = []
    for number, file in enumerate(checkpoint.file):  # which may bear the same name
        inside = folder / str(number)
        inside.mkdir(exist_ok=True)
        files.append(fetch(checkpoint.name, file, inside))
    return files


def agree(checkpoint: PublicCheckpoint, accepted: Sequence[str]) -> None:
    """Weights that are not free for every use are fetched by whoever says so alone."""
    licence = checkpoint.licence
    if checkpoint.commercial or licence in accepted:
        return
    print(f"{checkpoint.name}: its licence does not allow commercial use: {licence}")
    if not sys.stdin.isatty() or input("Type yes to accept it: ").strip().lower() != "yes":
        raise CheckpointError(f"not fetched; to accept its licence: --accept-licence {licence!r}")


def say(checkpoint: PublicCheckpoint) -> None:
    size = f"{checkpoint.bytes / 1e6:.1f} MB" if checkpoint.bytes else "size not published"
    print(f"{checkpoint.name}: {checkpoint.architecture}, {size}, {checkpoint.licence}")
    for address in checkpoint.file[0].addresses[:1]:
        print(f"from {address}", flush=True)


def taken(path: Path) -> Path:
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file")
    return path


def check_given(name: str, file: PublicFile, path: Path) -> None:
    try:
        check(file, path)
    except Refused as error:
        raise CheckpointError(f"{path} is not {name}: {error}") from error


def remembered(folder: Path, checkpoint: PublicCheckpoint, files: Sequence[Path]) -> list[str]:
    """The files' SHA-256; one that nobody publishes is that of the first file that came, from then on."""
    found = [sha256_of(file) for file in files]
    path = folder / DIGESTS
    with alone(folder / ".lock"):
        known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for number, (file, digest) in enumerate(zip(checkpoint.file, found, strict=True)):
            if file.sha256 is not None:
                continue
            key = f"{checkpoint.name}/{number}"
            if known.setdefault(key, digest) != digest:
                raise CheckpointError(
                    f"{checkpoint.name}: another file than the first time: SHA-256 {digest}, "
                    f"not {known[key]}; if you mean it, take {key!r} out of {path}"
                )
            print(f"SHA-256 {digest}, recorded: its source publishes none")
        if known:
            arriving = path.with_name(f".{DIGESTS}")
            arriving.write_text(json.dumps(known, indent=1), encoding="utf-8")
            arriving.replace(path)
    return found
