"""How our weights are made."""

from models.training.configure import train
from models.training.overlap import OverlapError

__all__ = ["OverlapError", "train"]
