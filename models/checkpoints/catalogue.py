"""Which public checkpoints can be had, from where, and under which licence: `catalogue.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from models import registry
from models.checkpoints.importer import CheckpointError

CATALOGUE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True)
class PublicFile:
    addresses: tuple[str, ...] = ()
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    member: str | None = None  # the checkpoint's path, where the file is an archive that carries it

    @cached_property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.addresses[0]).path).name


@dataclass(frozen=True)
class PublicCheckpoint:
    name: str
    architecture: str
    licence: str
    commercial: bool
    good_at: str
    file: tuple[PublicFile, ...]
    by_hand: str = ""

    @property
    def task(self) -> registry.Task:
        return registry.get(self.architecture).task

    @property
    def bytes(self) -> int | None:
        """Of all its files, where that is known."""
        sizes = [file.bytes for file in self.file]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def read_catalogue() -> dict[str, PublicCheckpoint]:
    """By name; a checkpoint whose network is not here is left out."""
    rows = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))["checkpoint"]
    found = [entry(row) for row in rows if row["architecture"] in registry.architectures()]
    return {checkpoint.name: checkpoint for checkpoint in found}


def entry(row: dict[str, Any]) -> PublicCheckpoint:
    files = (PublicFile(**file | {"addresses": tuple(file.get("addresses", ()))}) for file in row["file"])
    return PublicCheckpoint(**row | {"file": tuple(files)})


def find(name: str) -> PublicCheckpoint:
    catalogue = read_catalogue()
    if name not in catalogue:
        raise CheckpointError(f"no checkpoint {name!r} in the catalogue; there are: {', '.join(catalogue)}")
    return catalogue[name]
