"""Training without a teacher: what every distilled student is compared with."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.objectives import CrossEntropy
from tutelage.recipes import recipe
from tutelage.signals import Model
from tutelage.training import Fit, Learner, Plan, Stage


@recipe(matches="labels", needs_labels=True, tune={"label_smoothing": (0.0, 0.3)})
def alone(student: Model, data: Data, *, label_smoothing: float = 0.0, fit: Fit = Fit(epochs=30)) -> Plan:
    """Train a model on labels alone, without a teacher.

    Loss: cross entropy with the labels, mean over samples.

    Args:
        student: the model to train.
        data: samples with labels.
        label_smoothing: share of each label's mass spread evenly over the classes, in [0, 1).
        fit: duration and optimizer.

    Cost: one pass of the student a step, no teacher.
    Data: labels needed.
    Relations: `hinton-kd` with alpha 0 equals it.
    """
    loss = CrossEntropy(label_smoothing=label_smoothing)
    return Plan([Stage("train", Learner(student, loss), fit, data.train)], student)
