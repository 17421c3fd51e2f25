"""Which models of a stage give deferred logits, so that nothing as wide as the vocabulary is made for a whole batch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

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
    found: dict[int, Model] = {}

    def tried(model: Model) -> str | None:
        """Why a model cannot; else a hook is on its head."""
        if id(model) in found:
            return None
        with run.autocast():
            why = stack.enter_context(held(model, probe, 0 if wish == "always" else LARGE))
        if why is None:
            found[id(model)] = model
        return why

    reading = [learner for learner in learners.values() if isinstance(learner.loss, Objective) and LOGITS in _read(learner.loss)]
    why = _refused(reading)
    if why is None and run.accelerator.distributed_type not in WHOLE_HEADS:
        why = f"{run.accelerator.distributed_type} keeps a head in parts"
    for learner in reading if why is None else ():
        refused = tried(learner.student)
        for teacher in learner.taught.values() if refused is None else ():
            for model in teacher.models() if "deferred" in teacher.gives.forms else ():
                tried(model)
        why = why or refused
    if why is not None and wish == "always":
        raise BadInput(f"defer_logits=always: {why}; leave it at auto")
    return list(found.values())


def _refused(reading: Sequence[Learner]) -> str | None:
    """Why a term of some learners cannot read deferred logits."""
    for learner in reading:
        for leaf in learner.loss.leaves() if isinstance(learner.loss, Objective) else ():
            why = leaf.refuses("deferred") if LOGITS in _read(leaf) else None
            if why is not None:
                return f"the term {leaf.name!r} cannot read them: {why}"
    return None


def _read(loss: Objective) -> frozenset[object]:
    needs = loss.needs().anywhere
    return needs.student.union(needs.teacher or (), *needs.members.values())
