"""What was learned and what it costs: predictions, accuracy, agreement, size, operations."""

from tutelage.evaluation.classification import Predictions, difference, measure, predict
from tutelage.evaluation.cost import forward_flops, size_of

__all__ = ["Predictions", "difference", "forward_flops", "measure", "predict", "size_of"]
