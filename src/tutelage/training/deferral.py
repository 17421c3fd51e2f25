"""Which models of a stage give deferred logits, so that nothing as wide as the vocabulary is made for a whole batch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from tutelage.errors import BadInput
from tutelage.objectives import Objective
from tutelage.signals import Batch, Model
from tutelage.signals.head import LARGE, held
from tutelage.signals.taps import LOGITS
from tutelage.training.plan import Learner
from tutelage.training.run import Run

WHOLE_HEADS = ("NO", "MULTI_CPU", "MULTI_GPU")
"""Kinds of distribution that leave each process all of a model's head, also outside its pass."""


def deferred_models(run: Run, learners: Mapping[str, Learner], probe: Batch, stack: contextlib.ExitStack) -> list[Model]:
    """Choose the models, and put hooks on their heads for as long as the stage is open.

    Students are chosen whose logits all terms of all learners can read so; and their teachers, where they are single models.

    Args:
        run: says what is asked for.
        learners: of the stage.
        probe: samples that each model is tried on.
        stack: gets the hooks.

    Raises:
        BadInput: it must always be done, but a term or a student does not allow it.
    """
    wish = run.options.defer_logits
    if wish == "never" or not probe:
        return []
    must = wish == "always"
    reading = [learner for learner in learners.values() if isinstance(learner.loss, Objective) and LOGITS in _read(learner.loss)]
    for learner in reading:
        assert isinstance(learner.loss, Objective)
        for leaf in learner.loss.leaves():
            why = leaf.refuses("deferred") if LOGITS in _read(leaf) else None
            if why is not None and must:
                raise BadInput(f"defer_logits=always, but the term {leaf.name!r} cannot read them so: {why}; leave it at auto")
            if why is not None:
                return []
    if run.accelerator.distributed_type not in WHOLE_HEADS:
        if must:
            raise BadInput(f"defer_logits=always does not go with {run.accelerator.distributed_type}, which keeps a head in parts")
        return []
    found: dict[int, Model] = {}
    for learner in reading:
        if not _tried(run, learner.student, probe, must, stack, found):
            continue
        teacher = learner.teacher
        if teacher is not None and "deferred" in teacher.gives.forms:
            for model in teacher.models():
                _tried(run, model, probe, False, stack, found)
    return list(found.values())


def _read(loss: Objective) -> frozenset[object]:
    needs = loss.needs().anywhere
    return needs.student | (needs.teacher or frozenset())


def _tried(run: Run, model: Model, probe: Batch, must: bool, stack: contextlib.ExitStack, found: dict[int, Model]) -> bool:
    """Whether a model gives deferred logits; a hook is then on its head."""
    if id(model) not in found:
        with run.autocast():
            why = stack.enter_context(held(model, probe, 0 if must else LARGE))
        if why is not None:
            if must:
                raise BadInput(f"defer_logits=always: {why}")
            return False
        found[id(model)] = model
    return True
