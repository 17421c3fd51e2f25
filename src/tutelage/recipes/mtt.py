"""Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.data.condensation import Choice
from tutelage.objectives import CrossEntropy
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.training import Fit, Plan
from tutelage.training.condensed import Beginning, Learning, condensing
from tutelage.training.condensing import Inner

PAPER = Paper(
    "Dataset Distillation by Matching Training Trajectories",
    authors="Cazenavette et al.",
    year=2022,
    url="https://arxiv.org/abs/2203.11932",
    claim="CIFAR-10, networks trained from scratch on 1, 10 and 50 synthetic images a class: 46.3, 65.3 and 71.6 % correct; random real "
    "images give 14.4, 26.0 and 43.4 %.",
)
EXPERTS = Fit(epochs=10, optimizer="sgd", lr=0.05, momentum=0.0, weight_decay=0.0, schedule="constant")
CONDENSE = Fit(steps=300, optimizer="sgd", lr=0.3, momentum=0.5, weight_decay=0.0, schedule="constant")
STUDY = Fit(steps=300, optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.0005)


@recipe(paper=PAPER, matches="trajectories", needs_labels=True, condenses=True)
def mtt(
    student: Model,
    data: Data,
    *,
    per_class: int = 10,
    experts: int = 5,
    start: Choice = "k-means",
    rate: float = 0.05,
    rate_lr: float = 1e-4,
    inner: Inner = Inner(),
    expert_fit: Fit = EXPERTS,
    condense_fit: Fit = CONDENSE,
    fit: Fit = STUDY,
) -> Plan:
    """Condense the data to a few samples a class on which a short training ends where a long one on all of them did.

    Args:
        student: the architecture of the experts, and of the net that studies the condensed set from scratch at the end; given so that it
            can be built anew.
        data: images or rows of numbers, with labels.
        per_class: condensed samples of each class.
        experts: how many are trained on the data.
        start: the real samples that the set begins with.
        rate: first learning rate of the inner loop, > 0; trained, too.
        rate_lr: learning rate of that learning rate.
        inner: the inner loop.
        expert_fit: duration and optimizer of each expert; a snapshot is taken after each epoch.
        condense_fit: duration and optimizer of the condensation.
        fit: duration and optimizer of the student's training on the condensed set.

    Raises:
        BadInput: fewer samples of a class than asked for, or data that are no images and no rows of numbers.

    Cost: `experts` whole trainings, then for each condensing step `inner.steps` passes with gradients of gradients.
    Data: labels needed.
    Default: begins near the centres of clusters, as `ast` does, where the paper begins at random: that is worth more here than all else.
    Relations: `ast` is this with smooth experts and a steadier inner loop. The baseline is the student on all data.
    """
    begin = Beginning(per_class, start, rate)
    return condensing(student, data, experts, Learning(CrossEntropy, expert_fit), begin, inner, condense_fit, rate_lr, fit)
