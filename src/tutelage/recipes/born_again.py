"""Furlanello et al., "Born-Again Neural Networks", ICML 2018."""

from __future__ import annotations

from typing import Literal

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.objectives import ConfidenceWeighted, CrossEntropy, Match, Objective, permuted_dark, soft_cross_entropy
from tutelage.randomness import derive
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Ensemble, Frozen, Teacher
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "Born-Again Neural Networks",
    authors="Furlanello et al.",
    year=2018,
    url="https://arxiv.org/abs/1805.04770",
    claim="Students of their teacher's own architecture beat it: single DenseNets reach 3.5 % error on CIFAR-10 and 15.5 % on CIFAR-100.",
)

MOST = 100
"""Generations; all of their models are held at once, and beyond ten nobody has seen a gain."""


@recipe(paper=PAPER, matches="logits", needs_labels=True)
def born_again(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    generations: int = 3,
    arm: Literal["ban", "ban+l", "cwtm", "dkpp"] = "ban+l",
    fit: Fit = Fit(epochs=30),
) -> Plan:
    """Train generation after generation of the same architecture, each from new weights, each taught by the one before.

    Loss by arm, means over samples, at temperature 1: "ban" CE(teacher, student); "ban+l" that plus CE(labels); "cwtm" CE(labels) weighted
    by the teacher's largest probability; "dkpp" CE(teacher with its other classes permuted, student).

    Args:
        teacher: generation 0, in the paper of the student's own architecture.
        student: the architecture of all later generations; given so that it can be built anew.
        data: samples with labels.
        generations: how many are trained, 1 to 100.
        arm: the loss.
        fit: duration and optimizer of each generation.

    Raises:
        BadInput: generations outside their range, or an unknown arm.

    Cost: `generations` whole trainings, with one pass of the generation before a step.
    Data: labels needed by "ban+l" and "cwtm", and to tell what was gained.
    Default: three generations are the paper's largest number; durations and optimizer are ours.
    Relations: "ban" with one generation is `hinton-kd` with alpha 1 and temperature 1. All generations are kept, and their ensemble is
        measured.
    """
    if not 1 <= generations <= MOST:
        raise BadInput(f"born-again: generations={generations}; expected 1 to {MOST}")
    stages, members = [], []
    for number in range(1, generations + 1):
        members.append(student.fresh(seed=derive("generation", student.seed, number)))
        stages.append(Stage(f"generation-{number}", Learner(members[-1], _loss(arm), teacher), fit, data.train))
        teacher = Frozen(members[-1])
    also = {f"generation-{n}": member for n, member in enumerate(members, 1)}
    return Plan(stages, members[-1], also={**also, "ensemble": Ensemble([Frozen(m) for m in members])})


def _loss(arm: str) -> Objective:
    soft = Match("logits", by=soft_cross_entropy(), name="soft-targets")
    if arm == "ban":
        return soft
    if arm == "ban+l":
        return CrossEntropy() + soft
    if arm == "cwtm":
        return ConfidenceWeighted()
    if arm == "dkpp":
        return Match("logits", by=soft_cross_entropy(), target=permuted_dark(), name="permuted-targets")
    raise BadInput(f"born-again: arm={arm!r}; expected ban, ban+l, cwtm or dkpp")
