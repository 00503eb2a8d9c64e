"""How our weights are made."""

from models.training.configure import train
from models.training.errors import TrainingError

__all__ = ["TrainingError", "train"]
