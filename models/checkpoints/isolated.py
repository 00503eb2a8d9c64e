"""Checkpoints read and converted in a process of its own, with limits on memory, time and open files.

Whatever a file makes of its reader, the worst is a sentence. The process gets a request as JSON, leaves our
weights in a folder that it is given, and says on its standard output what they are.

    python -m models.checkpoints.isolated REQUEST
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from models.checkpoints import CheckpointError, import_public, recognise, spandrel
from models.checkpoints.files import read_public, unpack
from models.checkpoints.importer import Unknown, unwrap

SECONDS = 120  # of computing; the largest public file takes ten
PATIENCE = 3 * SECONDS  # by the clock, on a machine that is busy
ROOM = 1 << 30  # bytes beside what the files ask for
COPIES = 4  # of a file's bytes at once: as it is, in float32, in the network, as written
OPEN_FILES = 64
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Converted:
    """Our weights of a public checkpoint, in a folder that is gone when its block ends."""

    architecture: str
    arguments: dict[str, Any]
    file: Path


@contextmanager
def converted(
    file: Path,
    *,
    architecture: str | None = None,
    companion: Path | None = None,
    member: str | None = None,
    within: Path | None = None,
    **options: Any,
) -> Iterator[Converted]:
    """`member` names the checkpoint inside an archive that carries it, `within` where to work; `options` are
    the importer's."""
    files = [file, *([companion] if companion else [])]
    for each in files:
        if not each.is_file():  # a pipe or a device would keep its reader waiting, or never end
            raise CheckpointError(f"{each} is not a file")
    with tempfile.TemporaryDirectory(prefix="retouch-", dir=within) as folder:
        request: dict[str, Any] = {
            "files": [str(each.absolute()) for each in files],
            "architecture": architecture,
        }
        request |= {"member": member, "options": options, "folder": folder}
        answer = asked(request)
        yield Converted(answer["architecture"], answer["arguments"], Path(folder) / WEIGHTS)


def asked(request: dict[str, Any]) -> dict[str, Any]:
    """What the process answers, or its refusal."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    # One thread: others would take address space for their stacks and arenas.
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-m", "models.checkpoints.isolated", json.dumps(request)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(f"reading was ended after {PATIENCE} seconds") from error
    name = Path(request["files"][0]).name
    if done.returncode < 0 or not done.stdout:
        last = done.stderr.strip().splitlines()[-1:] or ["without a word"]
        how = f"by signal {-done.returncode}" if done.returncode < 0 else f"with {last[0]}"
        raise CheckpointError(
            f"{name} is not read: its reader ended {how}, within its limits of {limits(request)}"
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "refused" in answer:
        raise CheckpointError(answer["refused"])
    return answer


def limits(request: dict[str, Any]) -> str:
    return f"{budget(request) >> 20} MB and {SECONDS} seconds"


def budget(request: dict[str, Any]) -> int:
    return ROOM + COPIES * sum(Path(file).stat().st_size for file in request["files"])


def restrain(memory: int) -> None:
    """From here on; a system that knows a limit by name only goes without it."""
    bounds = {
        resource.RLIMIT_CPU: SECONDS,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_FSIZE: memory,
        resource.RLIMIT_CORE: 0,
    }
    mapped = Path("/proc/self/statm")
    if mapped.exists():
        bounds[resource.RLIMIT_AS] = int(mapped.read_text().split()[0]) * resource.getpagesize() + memory
    for kind, bound in bounds.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (bound, bound))


def convert(request: dict[str, Any]) -> dict[str, Any]:
    folder, options = Path(request["folder"]), request["options"]
    file, *companions = (Path(each) for each in request["files"])
    if request["member"]:
        inside = folder / f"inside{Path(request['member']).suffix}"
        unpack(file, request["member"], inside)
        file = inside
    state = read_public(file)
    if companions:
        options["companion"] = read_public(companions[0])
    architecture = request["architecture"]
    try:
        architecture = architecture or recognise(state)
        arguments, net = import_public(architecture, state, **options)
        tensors = net.state_dict()
    except TypeError as error:  # an importer without such an option
        raise CheckpointError(f"{architecture} takes no such option: {error}") from error
    except Unknown as unknown:
        architecture, tensors = "spandrel", unwrap(state)
        try:
            arguments = spandrel.told(tensors)
        except CheckpointError as error:
            raise CheckpointError(f"{unknown}; {error}") from error
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / WEIGHTS)
    return {"architecture": architecture, "arguments": arguments}


def main() -> None:
    request = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    restrain(budget(request))
    try:
        answer = convert(request)
    except CheckpointError as error:
        answer = {"refused": str(error)}
    except KeyError as error:  # an unknown architecture, said in full
        answer = {"refused": str(error.args[0])}
    except (MemoryError, RuntimeError, RecursionError, OSError, ValueError) as error:
        name = Path(request["files"][0]).name
        answer = {"refused": f"{name} is not read within {limits(request)}: {error or type(error).__name__}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
