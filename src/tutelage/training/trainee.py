"""Trainee: the one module that is wrapped for distribution: the trained models together with their objectives.

Its forward computes all terms of the learners that step together, so connectors are synchronised, and hooks and early stops stay inside
the wrapper. Reduction: sums here, counts over the whole optimizer step in the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from tutelage.errors import BadInput
from tutelage.objectives import Needs, Objective, Seen, Term
from tutelage.signals import Signals
from tutelage.training.plan import Learner
from tutelage.training.step import Step


class Trainee(nn.Module):
    """The models and objectives of the learners of one turn.

    Args:
        learners: by name.
        plain: a context without autocast, for the terms; models switch it on for their own passes.
    """

    def __init__(self, learners: Mapping[str, Learner], plain: Callable[[], AbstractContextManager[Any]]) -> None:
        super().__init__()
        self.learners, self.plain = dict(learners), plain
        self.needs = {name: learner.loss.needs() for name, learner in learners.items() if isinstance(learner.loss, Objective)}
        modules: list[nn.Module] = []
        for learner in learners.values():
            modules += [model.module for model in learner.models.values()]
            if isinstance(learner.loss, Objective):
                modules.append(learner.loss)
        self.held = nn.ModuleList(modules)

    def forward(self, step: Step) -> dict[str, list[Term] | None]:
        """The terms of each learner on a micro-batch; None for a learner that is not updated this time."""
        with self.plain():  # a KL under autocast would come out in bfloat16
            return {name: self._terms(name, learner, step) for name, learner in self.learners.items()}

    def _terms(self, name: str, learner: Learner, step: Step) -> list[Term] | None:
        terms = terms_of(learner, self.needs[name], step) if name in self.needs else learner.loss(step)
        names = [t.name for t in terms or ()]
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise BadInput(f"learner {name!r} has two terms named {twice!r}; tell them apart with .named('...')")
        return terms


def terms_of(learner: Learner, needs: Needs, step: Step) -> list[Term]:
    """Ask the teacher, then the student, then the objective; in this order the student is served from the memory that the teacher freed."""
    assert isinstance(learner.loss, Objective)
    student, teacher, batch = seen_by(learner, needs, step)
    if needs.views:
        views = {view: seen_by(learner, inner, step, view) for view, inner in needs.views.items()}
        student = Signals(student, student.present_B, views)
    return learner.loss.terms(student, teacher, batch)


def seen_by(learner: Learner, needs: Needs, step: Step, view: str | None = None) -> Seen:
    """What a learner's student and teacher show of one view, as far as it is needed; the teacher first, since writes need what it shows."""
    unasked = not needs.student and (view is not None or bool(needs.views))  # all that is looked at is in other views
    asked = learner.asks(needs, writes=not unasked)
    told = {name: step.signals(who, taps, view=view, deferred=True) for name, (who, taps) in asked.items()}
    written = told.pop(None, None)
    student = Signals({})
    if not unasked:
        student = step.signals(learner.student, needs.student, view=view, deferred=True, writes=learner.writes, teacher=written)
    teacher = None if needs.teacher is None else written
    if told:
        teacher = Signals({} if teacher is None else teacher, None if teacher is None else teacher.present_B, members=named(told))
    return Seen(student, teacher, step.seen_in(view))


def named(told: Mapping[str | None, Signals]) -> dict[str, Signals]:
    """What those showed that were asked by name."""
    return {name: signals for name, signals in told.items() if name is not None}
