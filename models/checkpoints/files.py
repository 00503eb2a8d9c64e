"""Public weights files: .pth and .ckpt without running their code, TorchScript, safetensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.checkpoints.importer import CheckpointError, PublicState


class Ignored:
    """Stands for any object of a pickle that is neither a tensor nor a plain container; runs nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...


class TensorsAlone(pickle.Unpickler):
    """Admits what tensors are made of and plain containers; everything else becomes `Ignored`.

    Training frameworks store their configuration beside the weights, in classes of their own.
    """

    ADMITTED = ("collections", "torch", "torch._utils", "torch.storage", "torch.serialization")
    NAMES = frozenset([
        "OrderedDict", "defaultdict", "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter", "Size",
        "UntypedStorage", "TypedStorage", "FloatStorage", "HalfStorage", "BFloat16Storage", "DoubleStorage",
        "LongStorage", "IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage",
        "float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool",
    ])  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if module in self.ADMITTED and name in self.NAMES:
            return super().find_class(module, name)
        return type(name, (Ignored,), {})


class Restricted:
    """What torch.load takes for the pickle module."""

    Unpickler = TensorsAlone
    __name__ = "restricted"

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        return TensorsAlone(file, **options).load()


def read_public(path: Path) -> PublicState:
    """The state that a file holds, with the wrappers that it came in."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path.name} is no safetensors file: {error}") from error
    for reader in (torch_file, torchscript, restricted):
        try:
            state = reader(path)
        except OSError:
            raise
        except Exception:  # each reader has its own ways to say that a file is not its own
            continue
        if isinstance(state, dict):
            return state
    raise CheckpointError(f"{path.name} is neither a torch checkpoint, TorchScript nor safetensors")


def torch_file(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def torchscript(path: Path) -> Any:
    return torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]


def restricted(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=Restricted)
