"""What a device's errors mean: too little memory, which passes, or a device that is lost for good.

CUDA, its libraries and ONNX Runtime each say it in words of their own; CUDA alone has codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

NO_MEMORY = 2  # cudaErrorMemoryAllocation
# Errors of one call, after which the device still works: arguments, configurations and kernels that it does
# not take, too many resources for a launch, what is not supported, and all that can happen to a capture.
PASSING = frozenset({1, NO_MEMORY, 9, 98, 209, 701, 801, *range(900, 909), 910})
# cuDNN and cuBLAS that find no memory for their own handles say that they are not initialised.
SAYS_NO_MEMORY = re.compile(
    r"out of memory|CU\w+_(ALLOC_FAILED|NOT_INITIALIZED)|Failed to allocate memory", re.IGNORECASE
)


class DeviceLost(Exception):
    """The device's context is broken for good; nothing can be computed in this process any more."""


def meaning(error: Exception) -> Exception:
    """OutOfMemoryError or DeviceLost where the error is one of them in other words, else the error itself."""
    if isinstance(error, torch.OutOfMemoryError | DeviceLost):
        return error
    code = getattr(error, "error_code", None)
    if code == NO_MEMORY or (code is None and SAYS_NO_MEMORY.search(str(error))):
        return torch.OutOfMemoryError(str(error))
    if isinstance(error, torch.AcceleratorError) and code not in PASSING:
        return DeviceLost(str(error))
    return error


@contextmanager
def told() -> Iterator[None]:
    """Errors of what is inside leave it as what they mean."""
    try:
        yield
    except Exception as error:
        meant = meaning(error)
        if meant is error:
            raise
        raise meant from error
