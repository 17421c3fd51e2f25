"""The plan of condensing: experts, the samples to begin with, the condensation, and a student that studies its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.data import Data, Table, representatives
from tutelage.data.condensation import CHOICES, Choice, SyntheticSet, class_labels, inputs_of, keep
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy
from tutelage.randomness import derive
from tutelage.signals import Model
from tutelage.training.action import Action
from tutelage.training.condensing import Inner, TrajectoryMatching, synthetic_model
from tutelage.training.fit import Fit
from tutelage.training.plan import Learner, Plan, Stage, View
from tutelage.training.run import Run
from tutelage.training.trajectory import Trajectory


@dataclass(frozen=True)
class Condensed:
    """A condensed set as a plan's by-product.

    Args:
        model: the handle on the `SyntheticSet`.
        data: what it stands for.
    """

    model: Model
    data: Data

    def keep(self, folder: Path, about: Mapping[str, Any] | None = None) -> None:
        """Write it; see `data.condensation.keep`."""
        keep(folder, self._set(), self.data, about)

    def source(self) -> Table:
        """The samples as they are now."""
        return self._set().source()

    def _set(self) -> SyntheticSet:
        module = self.model.module
        assert isinstance(module, SyntheticSet)
        return module


@dataclass(frozen=True)
class Learning:
    """How an expert learns.

    Args:
        loss: a learner's.
        views: that it takes.
        fit: duration and optimizer; a snapshot is taken after each epoch.
    """

    loss: Callable[[], Any]
    fit: Fit
    views: Mapping[str, View] = field(default_factory=dict)


@dataclass(frozen=True)
class Beginning:
    """Where the samples begin.

    Args:
        per_class: condensed samples of each class.
        start: the real samples that the set begins with.
        by_expert: compare samples by the first expert's logits, rather than as they are.
        rate: first learning rate of the inner loop, > 0.
    """

    per_class: int
    start: Choice
    rate: float
    by_expert: bool = False


def condensing(
    student: Model, data: Data, experts: int, learning: Learning, beginning: Beginning, inner: Inner, fit: Fit, rate_lr: float, study: Fit
) -> Plan:
    """The plan of `mtt` and `ast`.

    Args:
        student: the architecture of the experts, and who studies the condensed set at the end.
        data: what is condensed.
        experts: how many are trained on the data, each a stage "expert-1" and so on.
        learning: how they learn.
        beginning: where the samples begin.
        inner: the inner loop.
        fit: duration and optimizer of the condensation.
        rate_lr: learning rate of the inner loop's own learning rate.
        study: duration and optimizer of the student's training.

    Returns:
        A plan whose `also` has the set under the name "condensed".

    Raises:
        BadInput: no experts, fewer samples of a class than asked for, experts too short for the inner loop, or
            data that are no images and no rows of numbers.
    """
    if experts < 1:
        raise BadInput(f"experts={experts}: expected at least 1")
    if beginning.start not in CHOICES:
        raise BadInput(f"start={beginning.start!r}: expected {', '.join(CHOICES)}")
    if not beginning.rate > 0 or not rate_lr >= 0:
        raise BadInput(f"rate={beginning.rate}, rate_lr={rate_lr}: expected learning rates, the first above 0")
    labels = class_labels(data.train, beginning.per_class, data.class_count())
    y = labels[labels >= 0].unique().repeat_interleave(beginning.per_class)
    column, some = inputs_of(data.train.rows(torch.arange(1), "probe"))
    inner = starting(inner, learning.fit.updates(len(data.train)))
    path = Trajectory(spacing(learning.fit, len(data.train), inner))
    makers = [student.fresh(derive("expert", student.seed, k)) for k in range(experts)]
    stages = [
        Stage(f"expert-{number}", Learner(each, learning.loss(), views=learning.views), learning.fit, data.train, parts=[path])
        for number, each in enumerate(makers, 1)
    ]

    def begin(run: Run) -> dict[str, Tensor]:
        _, x = inputs_of(data.train)
        seen = _shown(makers[0], x, column, run) if beginning.by_expert else x
        chosen = representatives(seen, labels, beginning.per_class, beginning.start, run.seed)
        return {"x": x[chosen], "chosen": chosen}

    first = Action("begin", begin)
    synthetic = synthetic_model(tuple(some.shape[1:]), y, beginning.rate, column)
    matching = TrajectoryMatching(student.fresh(derive("inner", student.seed)), synthetic, path, inner, first)
    condense = Stage("condense", Learner(synthetic, matching, groups={"lr": {"lr": rate_lr}}), fit)
    condensed = Condensed(synthetic, data)
    last = Stage("study", Learner(student, CrossEntropy()), replace(study, batch_size=min(study.batch_size, len(y))), condensed.source)
    return Plan([*stages, first, condense, last], student, also={"condensed": condensed})


def starting(inner: Inner, updates: int) -> Inner:
    """The inner loop with as many starts as an expert of so many updates can give.

    Raises:
        BadInput: it can give none.
    """
    if updates < inner.ahead:
        raise BadInput(
            f"an expert of {updates} updates leaves no way of inner.ahead={inner.ahead} snapshots; train experts longer, or look less far"
        )
    return replace(inner, starts=min(inner.starts, updates - inner.ahead + 1))


def spacing(fit: Fit, samples: int, inner: Inner) -> int:
    """Updates between two snapshots of an expert: an epoch, or less where too few snapshots would be left."""
    return max(1, min(round(samples / fit.batch_size), fit.updates(samples) // (inner.starts - 1 + inner.ahead)))


def _shown(expert: Model, x: Tensor, column: str, run: Run, at_once: int = 512) -> Tensor:
    """An expert's logits of all samples, (N, V)."""
    expert.module.to(run.device)
    parts = []
    with expert.mode(training=False), torch.no_grad():
        for at in range(0, len(x), at_once):
            part = x[at : at + at_once]
            shown = expert.observe(run.place({column: part, "id": torch.arange(len(part))}), {"logits"})["logits"]
            assert isinstance(shown, Tensor)
            parts.append(shown.cpu())
    return torch.cat(parts)
