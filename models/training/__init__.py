"""How our weights are made."""

from models.training.configure import train

__all__ = ["train"]
