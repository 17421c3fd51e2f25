"""Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018; and TRADES."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from tutelage.attacks import Attack, Attacked
from tutelage.data import Data, kind_of
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Needs, Objective, Term
from tutelage.recipes import Paper, recipe
from tutelage.signals import Batch, Model, Signals
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "Towards Deep Learning Models Resistant to Adversarial Attacks",
    authors="Madry et al.",
    year=2018,
    url="https://arxiv.org/abs/1706.06083",
    claim="CIFAR-10, eps 8/255: a net trained on the labels alone is right on 3.5 % of images under PGD, one trained under PGD on 45.8 %, "
    "for 87.3 % instead of 95.2 % on images as they are.",
)

VIEW = "attacked"


@recipe(paper=PAPER, matches="labels", needs_labels=True, robust=True)
def pgd_at(
    student: Model,
    data: Data,
    *,
    attack: Attack = Attack(eps=8 / 255, steps=10),
    trades: float = 0.0,
    fit: Fit = Fit(epochs=30),
) -> Plan:
    """Train a model on images that are changed, at each step, so that it errs: a robust model, without a teacher.

    Loss: CE(labels) on the attacked images; with trades = beta > 0, TRADES: CE(labels) on the images as they are + beta * KL(p || p'), p
    the model's probabilities there and p' on the attacked ones, the attack being against p. Means over samples.

    Args:
        student: the model to train.
        data: images in [0, 1] with labels; a model's own normalisation comes behind the attack.
        attack: how far images are changed, and how the change is looked for.
        trades: weight of steadiness in TRADES, the paper's 1 to 6; 0 trains on the attacked images alone.
        fit: duration and optimizer.

    Raises:
        BadInput: samples that are no images in [0, 1], a negative weight, or an attack against a teacher, of which there is none.

    Cost: one pass forward and backward for each step of the attack, besides that of the training.
    Data: labels needed.
    Default: the attack is the paper's of CIFAR-10, 10 steps of a quarter of 8/255; duration and optimizer are ours. TRADES (Zhang et al.,
        2019) starts near the image: `--attack.start near`.
    Relations: with an attack of eps 0 it is `alone`. It trains the robust teacher of `mtard`.
    """
    check_images("pgd-at", data)
    if isinstance(trades, bool) or not 0 <= trades < math.inf:
        raise BadInput(f"pgd-at: trades={trades}; expected a finite number of at least 0")
    if attack.against == "teacher":
        raise BadInput("pgd-at: attack.against=teacher, but there is no teacher; take labels or self")
    loss: Objective = CrossEntropy().on(VIEW)
    if trades > 0:
        attack = Attack(**{**vars(attack), "against": "self"})
        loss = CrossEntropy() + trades * Steady(VIEW)
    return Plan([Stage("train", Learner(student, loss, views={VIEW: Attacked(attack)}), fit, data.train)], student)


def check_images(name: str, data: Data) -> None:
    """Refuse data that an attack cannot change a little.

    Raises:
        BadInput: they are no images.
    """
    kind = kind_of(data.train)
    if kind != "images":
        raise BadInput(f"{name} attacks images, but {data.name} holds {kind or 'samples of another kind'}; give images in [0, 1]")


class Steady(Objective):
    """What a model says of a view of the samples shall be what it says of the samples themselves: KL(p || p'), gradients on both sides.

    Args:
        view: name of the view.
    """

    name = "steady"

    def __init__(self, view: str) -> None:
        super().__init__()
        self.other = view

    def needs(self) -> Needs:
        """The logits in both."""
        logits = Needs(frozenset({"logits"}))
        return logits | Needs(views={self.other: logits})

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """One term."""
        plain, attacked = (side["logits"].log_softmax(-1) for side in (student, student.views[self.other].student))
        values: Tensor = F.kl_div(attacked, plain, reduction="none", log_target=True).sum(-1)
        return [Term(self.name, values, mask=None)]
