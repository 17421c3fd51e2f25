"""Shen, Yang & Lam, "Efficient Dataset Distillation through Alignment with Smooth and High-Quality Expert Trajectories", 2023."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.data.condensation import Choice
from tutelage.recipes import Paper, recipe
from tutelage.recipes.mtt import CONDENSE, STUDY
from tutelage.signals import Model
from tutelage.training import Fit, Plan
from tutelage.training.condensed import Beginning, Learning, condensing
from tutelage.training.condensing import Inner, SmoothExpert, clipped_loss

PAPER = Paper(
    "Efficient Dataset Distillation through Alignment with Smooth and High-Quality Expert Trajectories",
    authors="Shen, Yang & Lam",
    year=2023,
    url="https://arxiv.org/abs/2310.10541",
    claim="Smooth experts of a stronger optimizer and a steadier inner loop beat MTT and FTD on CIFAR-10, CIFAR-100 and Tiny ImageNet.",
)
EXPERTS = Fit(epochs=10, optimizer="sgd", lr=0.02, momentum=0.9, weight_decay=0.001, schedule="constant")
INNER = Inner(intermediate=1.0, balanced=True, perturbation=1.0)


@recipe(paper=PAPER, matches="trajectories", needs_labels=True, condenses=True)
def ast(
    student: Model,
    data: Data,
    *,
    per_class: int = 10,
    experts: int = 5,
    start: Choice = "k-means",
    clipping: float = 0.5,
    penalty: float = 2.0,
    rate: float = 0.05,
    rate_lr: float = 1e-4,
    inner: Inner = INNER,
    expert_fit: Fit = EXPERTS,
    condense_fit: Fit = CONDENSE,
    fit: Fit = STUDY,
) -> Plan:
    """Condense the data like `mtt`, along the ways of smooth and strong experts, from representative samples, by a steadier inner loop.

    Args:
        student: the architecture of the experts, and of the net that studies the condensed set from scratch at the end; given so that it
            can be built anew.
        data: images or rows of numbers, with labels.
        per_class: condensed samples of each class.
        experts: how many are trained on the data.
        start: the real samples that the set begins with, chosen by the first expert's logits.
        clipping: factor of an expert's loss in its first epoch, in (0, 1], rising by 0.05 an epoch; 1 for no clipping.
        penalty: weight of the expert's gradient penalty; 0 for none.
        rate: first learning rate of the inner loop, > 0; trained, too.
        rate_lr: learning rate of that learning rate.
        inner: the inner loop.
        expert_fit: duration and optimizer of each expert; a snapshot is taken after each epoch.
        condense_fit: duration and optimizer of the condensation.
        fit: duration and optimizer of the student's training on the condensed set.

    Raises:
        BadInput: fewer samples of a class than asked for, or data that are no images and no rows of numbers.

    Cost: as `mtt`; the penalty doubles an expert's passes.
    Data: labels needed.
    Relations: with `clipping` 1, `penalty` 0 and the inner loop of `mtt` it is `mtt` with another start.
    """

    smooth = Learning(lambda: SmoothExpert(clipped_loss(clipping), penalty), expert_fit, SmoothExpert.views)
    begin = Beginning(per_class, start, rate, by_expert=True)
    return condensing(student, data, experts, smooth, begin, inner, condense_fit, rate_lr, fit)
