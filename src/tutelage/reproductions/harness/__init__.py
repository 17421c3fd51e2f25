"""The harness of reproductions: what a claim is made of, how it is carried out, and the rule that turns numbers into a verdict."""

from tutelage.reproductions.harness.design import Arm, Made, Reproduction, each_try, outcome
from tutelage.reproductions.harness.orders import Orders, Picks
from tutelage.reproductions.harness.predictions import Difference, Level, NonInferior, Prediction, RankCorrelation, Trend
from tutelage.reproductions.harness.verdicts import Verdict

__all__ = [
    "Arm",
    "Difference",
    "Level",
    "Made",
    "NonInferior",
    "Orders",
    "Picks",
    "Prediction",
    "RankCorrelation",
    "Reproduction",
    "Trend",
    "Verdict",
    "each_try",
    "outcome",
]
