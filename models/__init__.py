"""The networks of Retouch: pure torch, independent of the service that runs them."""

import os

# As in `service`, for training and judging without it: threads that wait must sleep, not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from models import inpainting as inpainting
from models import upscaling as upscaling
from models.manifest import default_model, installed, load
from models.registry import architectures, create

__all__ = ["architectures", "create", "default_model", "installed", "load"]
