"""How a student learns: Fit, Learner, Stage, Plan, and the loop that runs a plan."""

from tutelage.training.action import Action, SameWeights
from tutelage.training.fit import Fit
from tutelage.training.loop import train
from tutelage.training.opening import rehearse
from tutelage.training.options import RunOptions
from tutelage.training.plan import Cost, Learner, Plan, Stage, up_to
from tutelage.training.run import Run
from tutelage.training.step import Step

__all__ = ["Action", "Cost", "Fit", "Learner", "Plan", "Run", "RunOptions", "SameWeights", "Stage", "Step", "rehearse", "train", "up_to"]
