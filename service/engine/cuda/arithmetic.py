"""With what rounding a network computes: by its architecture, and part of what its answers are known by."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from models.registry import Architecture

# The switch for TF32 is the process's, while engines of several GPUs may want it otherwise at the same time:
# it is held for as long as kernels are launched. What is captured keeps its kernels.
SWITCH = threading.Lock()


@dataclass(frozen=True)
class Arithmetic:
    name: str
    tf32: bool = False  # in convolutions; products, among them the scores of attention, are always exact
    half: torch.dtype | None = None  # under autocast

    @contextmanager
    def applied(self, device: torch.device) -> Iterator[None]:
        """Kernels that are launched inside compute like this."""
        with SWITCH if device.type == "cuda" else nullcontext():
            if device.type == "cuda":
                torch.backends.cudnn.allow_tf32 = self.tf32
            with torch.autocast(device.type, dtype=self.half, enabled=self.half is not None):
                yield


FLOAT32 = Arithmetic("float32")
TF32 = Arithmetic("tf32", tf32=True)
HALVES = {
    "float16": Arithmetic("float16", half=torch.float16),
    "bfloat16": Arithmetic("bfloat16", half=torch.bfloat16),
}


def arithmetic_of(precision: str, device: torch.device, architecture: Architecture) -> Arithmetic:
    """What RETOUCH_PRECISION means for a network: on a GPU `auto` is TF32, float32 for what chooses."""
    if device.type == "cpu" or precision == "float32" or architecture.chooses:
        return FLOAT32
    return TF32 if precision == "auto" else HALVES[precision]


def fix_switches() -> None:
    """What is the same for every network: no kernels that add in no order, no rounding of products."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
