"""What the student has to match: objectives with named terms, their algebra, distances and connectors."""

from tutelage.objectives.balance import EntropyBalance, LossBalance, WatchedMatch
from tutelage.objectives.connectors import Connector, grid_conv, regressor, valid_conv
from tutelage.objectives.features import cosine, mse
from tutelage.objectives.interpolated import LossDriven, interpolated_target
from tutelage.objectives.labels import ConfidenceWeighted, CrossEntropy
from tutelage.objectives.logits import jensen_shannon, probability_cross_entropy, soft_cross_entropy, soft_targets
from tutelage.objectives.match import Distance, Match
from tutelage.objectives.objective import Needs, Objective, Over, Seen, Shapes, Term, count_of, mean_of, safe_count, sum_of
from tutelage.objectives.skew import skew_kl
from tutelage.objectives.targets import label_mix, permuted_dark

__all__ = [
    "ConfidenceWeighted",
    "Connector",
    "CrossEntropy",
    "Distance",
    "EntropyBalance",
    "LossBalance",
    "LossDriven",
    "Match",
    "Needs",
    "Objective",
    "Over",
    "Seen",
    "Shapes",
    "Term",
    "WatchedMatch",
    "cosine",
    "count_of",
    "grid_conv",
    "interpolated_target",
    "jensen_shannon",
    "label_mix",
    "mean_of",
    "mse",
    "permuted_dark",
    "probability_cross_entropy",
    "regressor",
    "safe_count",
    "skew_kl",
    "soft_cross_entropy",
    "soft_targets",
    "sum_of",
    "valid_conv",
]
