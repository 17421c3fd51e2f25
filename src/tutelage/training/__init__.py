"""How a student learns: Fit, Learner, Stage, Plan, and the loop that runs a plan."""

from tutelage.training.action import Action, SameWeights
from tutelage.training.fit import Fit
from tutelage.training.loop import train
from tutelage.training.opening import rehearse
from tutelage.training.options import RunOptions
from tutelage.training.plan import Cost, Learner, Plan, Stage, up_to
from tutelage.training.run import Run
from tutelage.training.step import Step
from tutelage.training.trajectory import Trajectory, TrajectoryPart, TrajectoryReader
from tutelage.training.unrolled import Layout, distance_left, logits_with, unrolled_sgd

__all__ = [
    "Action",
    "Cost",
    "Fit",
    "Layout",
    "Learner",
    "Plan",
    "Run",
    "RunOptions",
    "SameWeights",
    "Stage",
    "Step",
    "Trajectory",
    "TrajectoryPart",
    "TrajectoryReader",
    "distance_left",
    "logits_with",
    "rehearse",
    "train",
    "unrolled_sgd",
    "up_to",
]
