"""Zip archives of weights read as data: what torch.save and TorchScript write, and .npz.

Nothing in them is run. A pickle may build plain containers; what it says of a tensor is kept as a record and
held against the archive before a byte of it is read; every other object becomes a bare `Thing`, which is how
TorchScript's modules are read as well. Sizes must add up to what the file really holds, so that a small file
cannot ask for a large piece of memory.
"""

from __future__ import annotations

import math
import pickle
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.checkpoints.importer import CheckpointError

SIGNATURE = b"PK\x03\x04"
MOST_MEMBERS = 100_000
MOST_PICKLED = 64 << 20  # bytes: what is beside the tensors, in a file of training state above all
MOST_SHRUNK = 20  # weights hardly shrink when they are compressed
DEEPEST = 100

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
NAMED = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


class Storage(NamedTuple):
    dtype: Any
    key: Any
    count: Any


class Stored(NamedTuple):
    """What a pickle says of a tensor; nothing of it is trusted yet."""

    storage: Any
    offset: Any
    size: Any
    stride: Any
    dtype: Any


class Thing:
    """Any object that is neither a tensor nor a plain container: its state is kept, nothing of it runs."""

    state: Any = None

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...


class Ordered(dict[Any, Any]):
    """An OrderedDict. A module's state has notes of its versions as an attribute, which nobody here reads."""

    def __setstate__(self, state: Any) -> None: ...


def rebuilt(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Stored:
    return Stored(storage, offset, size, stride, None)


def rebuilt_with_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Stored:
    return Stored(storage, offset, size, stride, dtype)


def first(value: Any, *rest: Any) -> Any:
    return value


ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Ordered,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): rebuilt,
    ("torch._utils", "_rebuild_tensor_v2"): rebuilt,
    ("torch._utils", "_rebuild_tensor_v3"): rebuilt_with_dtype,
    ("torch._utils", "_rebuild_parameter"): first,
    **{("torch.jit._pickle", f"build_{kind}list"): first for kind in ("int", "double", "bool", "tensor")},
    ("torch.jit._pickle", "restore_type_tag"): first,
    **{(module, name): dtype for module in ("torch", "torch.storage") for name, dtype in DTYPES.items()},
    **{("torch", name): getattr(torch, name) for name in NAMED},
}


class Data(pickle.Unpickler):
    """Builds plain containers, records of tensors and bare things; calls nothing that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        return ADMITTED.get((module, name), Thing)

    def persistent_load(self, pid: Any) -> Storage:
        _, dtype, key, _, count = pid
        return Storage(dtype, key, count)


class Archive:
    """A zip file whose members are what they say: no doubles, no paths elsewhere, no more bytes."""

    def __init__(self, path: Path) -> None:
        self.bytes = path.stat().st_size
        try:
            self.zip = zipfile.ZipFile(path)
        # NotImplementedError is what zipfile raises of an archive that wants a later version of the format.
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise CheckpointError(f"a broken archive: {error}") from error
        members = self.zip.infolist()
        if len(members) > MOST_MEMBERS:
            raise CheckpointError(f"an archive of {len(members)} members, more than {MOST_MEMBERS}")
        self.members = {member.filename: member for member in members}
        if len(self.members) < len(members):
            raise CheckpointError("an archive that holds a name twice")
        for member in members:
            name = PurePosixPath(member.filename)
            if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
                raise CheckpointError(f"an archive with a path that leads elsewhere: {member.filename!r}")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise CheckpointError(f"an archive with a link in it: {member.filename!r}")
            if member.flag_bits & 1:
                raise CheckpointError(f"an archive with an encrypted member: {member.filename!r}")
        stored = [member for member in members if member.compress_type == zipfile.ZIP_STORED]
        if sum(member.file_size for member in stored) > self.bytes:
            raise CheckpointError("an archive whose members are larger than the file")

    def size(self, name: str) -> int:
        if name not in self.members:
            raise CheckpointError(f"the archive lacks {name}")
        return self.members[name].file_size

    def open(self, name: str) -> IO[bytes]:
        """A member's bytes; those that torch writes are never compressed."""
        self.size(name)
        if self.members[name].compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{name} is compressed, which weights in such an archive never are")
        return self.zip.open(name)

    def expand(self, name: str) -> IO[bytes]:
        """The same where compression is admitted, within the bound that weights keep by themselves."""
        if self.size(name) > MOST_SHRUNK * self.members[name].compress_size:
            raise CheckpointError(f"{name} grows more than {MOST_SHRUNK} times when it is unpacked")
        if sum(member.file_size for member in self.members.values()) > MOST_SHRUNK * self.bytes:
            raise CheckpointError(f"an archive that grows more than {MOST_SHRUNK} times when it is unpacked")
        return self.zip.open(name)


def read_archive(path: Path) -> dict[str, Any]:
    """The state that an archive holds, tensors by name or in the containers that they were saved in."""
    archive = Archive(path)
    arrays = [name for name in archive.members if name.endswith(".npy")]
    if arrays and len(arrays) == len(archive.members):
        return {name.removesuffix(".npy"): read_array(archive, name) for name in arrays}
    pickles = [name for name in archive.members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("an archive, but none that torch.save or TorchScript writes")
    root = pickles[0].removesuffix("data.pkl")
    if archive.size(pickles[0]) > MOST_PICKLED:
        raise CheckpointError(f"{pickles[0]} is larger than {MOST_PICKLED >> 20} MB")
    order = f"{root}byteorder"
    if order in archive.members and archive.open(order).read(16) != b"little":
        raise CheckpointError("a checkpoint that was written on a big-endian machine")
    state = materialised(Data(archive.open(pickles[0])).load(), Storages(archive, root))
    if isinstance(state, Thing):
        state = dict(named(state, ""))
        if not state:
            raise CheckpointError("a script whose weights are frozen into its code, where they have no names")
    if not isinstance(state, dict):
        raise CheckpointError("a checkpoint that holds no state of a network")
    return state


class Storages:
    """The tensors' bytes, each read once."""

    def __init__(self, archive: Archive, root: str) -> None:
        self.archive, self.root = archive, root
        self.read: dict[str, Tensor] = {}

    def of(self, storage: Storage) -> Tensor:
        name = f"{self.root}data/{storage.key}"
        size = self.archive.size(name)
        if storage.count * storage.dtype.itemsize != size:
            raise CheckpointError(f"{name} holds {size} bytes, not {storage.count} numbers as it is said to")
        if name not in self.read:
            content = bytearray(self.archive.open(name).read())
            self.read[name] = (
                torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0).byte()
            )
        return self.read[name].view(storage.dtype)

    def tensor(self, stored: Stored) -> Tensor:
        dtype = stored.dtype or stored.storage.dtype
        if not isinstance(dtype, torch.dtype) or not isinstance(stored.storage.dtype, torch.dtype):
            raise CheckpointError("a tensor of numbers of a kind that is not read here")
        numbers = self.of(stored.storage).view(dtype)
        offset, size, stride = stored.offset, tuple(stored.size), tuple(stored.stride)
        if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
            raise CheckpointError("a tensor whose shape makes no sense")
        last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
        count = math.prod(size)
        if count and (last >= numbers.numel() or count > numbers.numel()):
            raise CheckpointError("a tensor that reaches beyond its storage")
        return numbers.as_strided(size, stride, offset) if count else numbers.new_empty(size)


def materialised(value: Any, storages: Storages, depth: int = 0) -> Any:
    """With tensors in place of what was said of them."""
    if depth > DEEPEST:
        raise CheckpointError("containers nested too deeply")
    if isinstance(value, Stored):
        return storages.tensor(value)
    if isinstance(value, Mapping):
        return {key: materialised(inner, storages, depth + 1) for key, inner in value.items()}
    if isinstance(value, Thing):
        value.state = materialised(value.state, storages, depth + 1)
    return value


def named(value: Any, name: str) -> list[tuple[str, Tensor]]:
    """The tensors of a tree of modules by the paths that lead to them, as a state dict calls them."""
    if isinstance(value, Tensor):
        return [(name, value)]
    inside = value.state if isinstance(value, Thing) else value
    if not isinstance(inside, Mapping):
        return []
    return [
        found
        for key, inner in inside.items()
        for found in named(inner, f"{name}.{key}" if name else str(key))
    ]


def read_array(archive: Archive, name: str) -> Tensor:
    """One array of an .npz; its header is held against the member's size first."""
    with archive.expand(name) as file:
        version = np.lib.format.read_magic(file)
        header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = header(file)
        if dtype.hasobject or dtype.kind not in "fiub":
            raise CheckpointError(f"{name} holds something other than numbers")
        count = math.prod(shape)
        if min(shape, default=0) < 0 or file.tell() + count * dtype.itemsize != archive.size(name):
            raise CheckpointError(f"{name} does not hold as many numbers as its header says")
        numbers = np.frombuffer(bytearray(file.read()), dtype).reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(np.ascontiguousarray(numbers).astype(dtype.newbyteorder("="), copy=False))
