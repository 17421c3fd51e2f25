"""Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.objectives import CrossEntropy, Match, mse, regressor, soft_cross_entropy
from tutelage.recipes import Paper, recipe
from tutelage.signals import Depth, Model, Tap
from tutelage.state import linear_ramp
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, Stage, up_to

PAPER = Paper(
    "FitNets: Hints for Thin Deep Nets",
    authors="Romero et al.",
    year=2015,
    url="https://arxiv.org/abs/1412.6550",
    claim="CIFAR-10: a thin student of 2.5M parameters reaches 91.61 %, its teacher of 9M 90.18 %.",
)


@recipe(
    paper=PAPER,
    matches="features, then logits",
    needs_labels=True,
    tune={"temperature": (1.0, 20.0, "log"), "start": (1.0, 16.0, "log")},
)
def fitnets(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    hint: str | None = None,
    guided: str | None = None,
    temperature: float = 3.0,
    start: float = 4.0,
    end: float = 1.0,
    hint_fit: Fit = Fit(epochs=10),
    fit: Fit = Fit(epochs=30),
) -> Plan:
    """Train the student's lower half to predict a hint layer of the teacher, then the whole by labels and soft targets.

    Stage "hint": mean squared error between the hint and a small regression of the guided layer, which trains the student up to the guided
    layer and the regressor, nothing above. Stage "distil": CE(labels) + w * CE(teacher at T, student at T), w falling in a straight line;
    the regressor and the first stage's momentum are gone.

    Args:
        teacher: a frozen classifier over the same classes, whose layers can be tapped.
        student: the model to train.
        data: samples with labels.
        hint: module path in the teacher; default: the block at half of its depth.
        guided: module path in the student; default: the block at half of its depth.
        temperature: softens both sides' probabilities in the second stage, > 0.
        start: weight of the soft part at the beginning of the second stage.
        end: weight of the soft part at its end.
        hint_fit: duration and optimizer of the first stage.
        fit: duration and optimizer of the second stage.

    Cost: one pass of the teacher a step, in the first stage only up to the hint; the regressor's parameters in the first stage.
    Data: labels needed in the second stage.
    Default: temperature and weights are the paper's; durations and optimizer are ours (the paper: RMSprop, hundreds of epochs).
        The regressor is linear; the paper gives it the nonlinearity of the teacher's layer.
    Relations: without the first stage and with start = end it is `hinton-kd` up to weights (its soft part carries no factor T^2).
    """
    at_guided: Tap = guided or Depth(0.5)
    at_hint: Tap = hint or Depth(0.5)
    match = Match(at_guided, at_hint, through=regressor(), by=mse(), name="hint")
    regress = Stage("hint", Learner(student, match, teacher, only=up_to(at_guided)), hint_fit, data.train)
    soft = Match("logits", by=soft_cross_entropy(temperature, scaled=False), name="soft-targets")
    loss = CrossEntropy() + linear_ramp(start, end) * soft
    distil = Stage("distil", Learner(student, loss, teacher), fit, data.train)
    return Plan([regress, distil], student)
