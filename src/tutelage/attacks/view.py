"""Attacked: the samples of a step, changed so that the student's loss rises; a view for `Learner(views=...)`. Shapes: B batch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import torch
from torch import Tensor

from tutelage.attacks.attack import Attack
from tutelage.attacks.search import images_in, search
from tutelage.errors import BadInput
from tutelage.randomness import derive
from tutelage.signals import Batch, Model, Signals, Tap
from tutelage.signals.outputs import raised
from tutelage.state import Clock
from tutelage.teachers import Teacher


class Moment(Protocol):
    """What the view uses of a `Step`."""

    batch: Batch
    clock: Clock
    turn: int

    def signals(self, who: str | Model | Teacher, taps: Collection[Tap], *, view: str | None = None) -> Signals:
        """What a teacher shows of the samples as they are, asked once a step."""


class Attacked:
    """The samples of a step under an attack on the student as it is then: the inner maximisation of adversarial training.

    The student is asked in evaluation mode and gets no gradient; a sample's starts are a function of (seed, stage, step, turn, id, view),
    so that neither micro-batches nor processes change them. Labels and ids stay those of the samples.

    Args:
        attack: how.
        teacher: who is followed by an attack against the "teacher"; it is asked about the samples as they are.

    Raises:
        BadInput: an attack against a teacher without one; at the first step, samples that are no images in [0, 1], or without labels
            where the attack is against them.
    """

    def __init__(self, attack: Attack, teacher: Teacher | None = None) -> None:
        if (attack.against == "teacher") != (teacher is not None):
            raise BadInput(f"Attacked(against={attack.against!r}): {'give the teacher' if teacher is None else 'it asks no teacher'}")
        self.attack, self.teacher = attack, teacher
        self._column: str | None = None

    def __call__(self, step: Moment, student: Model) -> Batch:
        """The batch with its images changed."""
        if self._column is None or step.batch["id"].device.type == "cpu":
            self._column = images_in(step.batch)  # elsewhere once: looking at the values of each batch would hold up an accelerator
        x = search(self.attack, student, step.batch, self._goal(step, student), _seeds(step), column=self._column)
        return {**step.batch, self._column: x}

    def _goal(self, step: Moment, student: Model) -> Tensor:
        if self.attack.against == "labels":
            y = step.batch.get("y")
            if not isinstance(y, Tensor):
                raise BadInput("an attack against the labels met samples without a column y; give against=self or against=teacher")
            return y
        if self.teacher is not None:
            return raised(step.signals(self.teacher, {"logits"})["logits"]).softmax(-1)
        with torch.no_grad(), student.mode(training=False):
            return raised(student.observe(step.batch, {"logits"})["logits"]).softmax(-1)

    def __repr__(self) -> str:
        return f"Attacked({self.attack.named})"


def _seeds(step: Any) -> list[int]:
    """A seed for each sample; a sample that stands twice in a batch, at the border of two epochs, has two."""
    at, ids_B = step.clock, step.batch["id"]
    views_B = step.batch.get("view", torch.zeros_like(ids_B))
    return [
        derive("attacked", at.seed, at.stage, at.step, step.turn, id, view)
        for id, view in zip(ids_B.tolist(), views_B.tolist(), strict=True)
    ]
