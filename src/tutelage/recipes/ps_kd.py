"""Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV 2021."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.objectives import Match, label_mix, probability_cross_entropy
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.state import per_epoch
from tutelage.teachers import PastSelf
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "Self-Knowledge Distillation with Progressive Refinement of Targets",
    authors="Kim et al.",
    year=2021,
    url="https://arxiv.org/abs/2006.12000",
    claim="CIFAR-100, PreAct-ResNet-18: top-1 error 24.18 to 20.82 %, calibration error 11.84 to 1.77.",
)


@recipe(paper=PAPER, matches="the student's own past", needs_labels=True, tune={"alpha": (0.3, 1.0)})
def ps_kd(student: Model, data: Data, *, alpha: float = 0.8, fit: Fit = Fit(epochs=30)) -> Plan:
    """Train a model on a mixture of each label and what the model itself said of the sample an epoch before.

    Loss: CE((1 - a) * label + a * past, student), mean over samples; a = alpha * (epoch + 1) / epochs. The past is the output of the
    training pass at the sample's last visit; in the first epoch it is the label.

    Args:
        student: the model to train.
        data: samples with labels and stable ids.
        alpha: share of the past in the last epoch's target, in [0, 1].
        fit: duration and optimizer.

    Raises:
        BadInput: alpha outside [0, 1], or no labels.

    Cost: no teacher and no further pass; one row of probabilities a sample is kept.
    Data: labels needed.
    Default: alpha 0.8 is the paper's for CIFAR-100; durations and optimizer are ours (the paper: SGD, 300 epochs).
    Relations: alpha 0, or a single epoch, equals `alone`.
    """
    if not 0 <= alpha <= 1:
        raise BadInput(f"ps-kd: alpha={alpha}; expected a share in [0, 1]")
    classes = data.class_count()
    if classes is None or not data.train.labelled:
        raise BadInput(f"ps-kd begins with the labels, but {data.name} has none")
    share = per_epoch(lambda epoch, epochs: alpha * min(1.0, (epoch + 1) / max(epochs, 1.0)))
    match = Match("logits", "probabilities", by=probability_cross_entropy(), target=label_mix(share), name="refined-labels")
    return Plan([Stage("train", Learner(student, match, PastSelf(classes)), fit, data.train)], student)
