"""Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Match, soft_targets
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "Distilling the Knowledge in a Neural Network",
    authors="Hinton, Vinyals, Dean",
    year=2015,
    url="https://arxiv.org/abs/1503.02531",
    claim="MNIST: a 2x800 student makes 146 test errors alone and 74 taught by a net that makes 67.",
)


@recipe(paper=PAPER, matches="logits", alias="kd", tune={"temperature": (1.0, 20.0, "log"), "alpha": (0.1, 1.0)})
def hinton_kd(
    teacher: Teacher, student: Model, data: Data, *, temperature: float = 4.0, alpha: float = 0.9, fit: Fit = Fit(epochs=30)
) -> Plan:
    """Train the student on the teacher's softened class probabilities, and on the labels.

    Loss: (1 - alpha) * CE(labels) + alpha * T^2 * KL(teacher at T || student at T), mean over samples.

    Args:
        teacher: a frozen classifier over the same classes.
        student: the model to train.
        data: samples, with labels unless alpha is 1.
        temperature: softens both sides' probabilities, > 0.
        alpha: share of the teacher's part in the loss, in [0, 1].
        fit: duration and optimizer.

    Raises:
        BadInput: alpha outside [0, 1], no labels where they count, or a temperature that is not positive.

    Cost: one pass of the teacher a step, no extra parameters.
    Data: labels only for the part 1 - alpha.
    Default: temperature 4 and alpha 0.9 are what later work on CIFAR-100 has settled on; the paper tries temperatures from 1 to 20.
    Relations: alpha 0 equals `alone`; the second stage of `fitnets` uses the same match with a falling weight.
    """
    if not 0 <= alpha <= 1:
        raise BadInput(f"hinton-kd: alpha={alpha}; expected a share in [0, 1]")
    if alpha < 1 and not data.train.labelled:
        raise BadInput(f"hinton-kd: {data.name} has no labels, which the share 1 - alpha of the loss needs; give alpha=1")
    soft = Match("logits", by=soft_targets(temperature), name="soft-targets")
    if alpha == 0:
        loss = 1.0 * CrossEntropy()
    elif alpha == 1:
        loss = 1.0 * soft
    else:
        loss = (1 - alpha) * CrossEntropy() + alpha * soft
    return Plan([Stage("distil", Learner(student, loss, teacher), fit, data.train)], student)
