"""Public weights files as data: torch checkpoints, TorchScript, .npz and safetensors; nothing in them is run.

Memory and time are bounded by the process that reads: `isolated` starts one for every import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from models.checkpoints.archive import SIGNATURE, Archive, read_archive
from models.checkpoints.importer import CheckpointError, PublicState


def read_public(path: Path) -> PublicState:
    """The state that a file holds, with the wrappers that it came in."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} is not a file")
    try:
        state = read(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        said = reason if isinstance(error, CheckpointError) else f"damaged, or of another kind ({reason})"
        raise CheckpointError(f"{path.name} is not read: {said}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path.name} holds no state of a network")
    return state


def read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    with path.open("rb") as file:
        zipped = file.read(len(SIGNATURE)) == SIGNATURE
    return read_archive(path) if zipped else torch.load(path, map_location="cpu", weights_only=True)


def unpack(path: Path, member: str, target: Path) -> None:
    """One file out of an archive that was made to carry it."""
    with Archive(path).expand(member) as packed, target.open("wb") as file:
        while piece := packed.read(1 << 20):
            file.write(piece)
