"""Trainee: the one module that is wrapped for distribution: the trained models together with their objectives.

Its forward computes all terms of the learners that step together, so connectors are synchronised, and hooks and early stops stay inside
the wrapper. Reduction: sums here, counts over the whole optimizer step in the loop.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from tutelage.errors import BadInput
from tutelage.objectives import Objective, Term
from tutelage.training.plan import Learner
from tutelage.training.step import Step


class Trainee(nn.Module):
    """The models and objectives of the learners of one turn.

    Args:
        learners: by name.
        device_type: of the device, for switching autocast off around the terms.
    """

    def __init__(self, learners: Mapping[str, Learner], device_type: str) -> None:
        super().__init__()
        self.learners, self.device_type = dict(learners), device_type
        modules: list[nn.Module] = []
        for learner in learners.values():
            modules += [model.module for model in learner.models.values()]
            if isinstance(learner.loss, Objective):
                modules.append(learner.loss)
        self.held = nn.ModuleList(modules)

    def forward(self, step: Step) -> dict[str, list[Term] | None]:
        """The terms of each learner on a micro-batch; None for a learner that is not updated this time."""
        # models switch autocast on for their own passes: a KL under it would come out in bfloat16
        with torch.autocast(self.device_type, enabled=False):
            return {name: self._terms(name, learner, step) for name, learner in self.learners.items()}

    @staticmethod
    def _terms(name: str, learner: Learner, step: Step) -> list[Term] | None:
        if not isinstance(learner.loss, Objective):
            terms = learner.loss(step)
        else:
            terms = terms_of(learner, step)
        names = [t.name for t in terms or ()]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise BadInput(f"learner {name!r} has two terms named {twice!r}; tell them apart with .named('...')")
        return terms


def terms_of(learner: Learner, step: Step) -> list[Term]:
    """Ask the student, then the teacher, then the objective."""
    assert isinstance(learner.loss, Objective)
    needs = learner.loss.needs()
    teacher = None
    if needs.teacher is not None and learner.teacher is not None:
        teacher = step.signals(learner.teacher, needs.teacher)
    return learner.loss.terms(step.signals(learner.student, needs.student), teacher, step.batch)
