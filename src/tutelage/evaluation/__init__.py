"""What was learned and what it costs: predictions, accuracy, calibration, agreement, size, operations, time, and the page that shows it."""

from tutelage.evaluation.classification import (
    Predictions,
    aurc,
    class_counts,
    confusion,
    measure,
    predict,
    recalls,
    reliability,
)
from tutelage.evaluation.comparison import difference
from tutelage.evaluation.cost import costs, forward_flops, processor, size_of
from tutelage.evaluation.disagreement import disagreements
from tutelage.evaluation.generated import frechet_distance, kernel_distance, precision_recall
from tutelage.evaluation.robustness import Referee, robustness, under_attack
from tutelage.evaluation.wording import busy, gain, headline, savings

__all__ = [
    "Predictions",
    "Referee",
    "aurc",
    "busy",
    "class_counts",
    "confusion",
    "costs",
    "difference",
    "disagreements",
    "forward_flops",
    "frechet_distance",
    "gain",
    "headline",
    "kernel_distance",
    "measure",
    "precision_recall",
    "predict",
    "processor",
    "recalls",
    "reliability",
    "robustness",
    "savings",
    "size_of",
    "under_attack",
]
