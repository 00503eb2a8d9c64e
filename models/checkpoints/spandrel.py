"""What no importer of ours recognises, handed to the library spandrel where that is installed."""

from __future__ import annotations

from typing import Any

from models.checkpoints.importer import CheckpointError, State
from models.upscaling.spandrel import NotHere, described

PURPOSES = ("SR", "FaceSR", "Restoration")


def told(state: State) -> dict[str, Any]:
    """The arguments of the network that a state is of."""
    try:
        known = described(state)
    except NotHere as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # what the library says of it, in whatever class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"spandrel does not know it either: {reason}") from error
    what = f"spandrel knows it as {known.architecture.name} x{known.scale}"
    if known.purpose not in PURPOSES or (known.input_channels, known.output_channels) != (3, 3):
        raise CheckpointError(f"{what}, which is no upscaler of pictures in colour")
    if known.scale < 2:
        raise CheckpointError(f"{what}, which does not enlarge")
    return {"factor": known.scale}
