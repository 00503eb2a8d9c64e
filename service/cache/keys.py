"""What an answer depends on, as one digest."""

from __future__ import annotations

import hashlib

from service.jobs.job import InpaintParameters, UpscaleParameters

# Raise this whenever the same pixels, parameters and weights would come out as other bytes.
PIPELINE_VERSION = 2


def cache_key(
    task: str,
    model: str,
    digest: str,
    parameters: InpaintParameters | UpscaleParameters,
    *uploads: bytes | None,
) -> str:
    """SHA-256 over everything; each part goes in with its length, so that no two splits collide."""
    hasher = hashlib.sha256()
    text = f"{PIPELINE_VERSION}\n{task}\n{model}\n{digest}\n{parameters.model_dump_json(exclude={'model'})}"
    for part in (text.encode(), *uploads):
        # An absent upload differs from an empty one.
        hasher.update(b"-" if part is None else f"{len(part)}:".encode())
        hasher.update(part or b"")
    return hasher.hexdigest()
