"""A failing batch is taken apart, so that only the window at fault fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from service.engine.faults import DeviceLost
from service.engine.windows import Pixels, Window
from service.errors import ComputeFailed, Problem, Unavailable

log = logging.getLogger("retouch.engine")

Run = Callable[[Sequence[Window]], list[Pixels]]


def run_isolated(run: Run, windows: Sequence[Window]) -> list[Pixels | Problem]:
    """An answer for every window: its pixels, or why there are none."""
    try:
        return list(run(windows))
    except (DeviceLost, Problem):
        raise
    except Exception as error:
        # The traceback's frames hold the tensors of the failed run: let go of them before trying again.
        problem = explain(error)
    if len(windows) == 1:
        return [problem]
    middle = len(windows) // 2
    return run_isolated(run, windows[:middle]) + run_isolated(run, windows[middle:])


def explain(error: Exception) -> Problem:
    if isinstance(error, torch.OutOfMemoryError):
        return Unavailable("The device has too little free memory for this picture.", retry_after=5)
    log.error("a batch failed: %s: %s", type(error).__name__, error)
    return ComputeFailed("The network could not compute this picture; other pictures are not affected.")
