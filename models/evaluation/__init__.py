"""How good an answer is, measured the way the field's tables are."""

from models.evaluation.inpaint import evaluate_inpaint
from models.evaluation.upscale import evaluate_upscale

__all__ = ["evaluate_inpaint", "evaluate_upscale"]
