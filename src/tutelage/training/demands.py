"""What a plan asks of its models and teachers, checked for all stages before the first one trains."""

from __future__ import annotations

from collections.abc import Collection

from tutelage.errors import BadInput
from tutelage.objectives import Objective
from tutelage.signals import Tap
from tutelage.signals.taps import LOGITS, check_path
from tutelage.signals.writes import taps_of
from tutelage.teachers import Pool, Teacher
from tutelage.training.checkpoint import names as listed
from tutelage.training.plan import Plan


def check_plan(plan: Plan) -> None:
    """Check, before the first stage trains, what all stages ask of their models and teachers.

    Raises:
        BadInput: an objective without its teacher, a tap that the teacher cannot give, or logits in a form that a term cannot read.
        UnknownTap: a path that is not in the model; names the nearest.
    """
    for stage in plan.stages:
        for name, learner in stage.named.items():
            if not isinstance(learner.loss, Objective):
                continue
            everywhere = learner.loss.needs()
            needs = everywhere.anywhere
            for view, inner in everywhere.views.items():
                for teacher, _ in learner.asks(inner).values():
                    if not teacher.gives.new_inputs and not isinstance(teacher, Pool):
                        raise BadInput(
                            f"stage {stage.name!r}: view {view!r} asks the teacher ({teacher.name}) about new inputs, which a cache "
                            "cannot answer; use the model itself"
                        )
            for tap in needs.student:
                if isinstance(tap, str) and tap != LOGITS:
                    check_path(learner.student.module, tap, f"the student ({learner.student.name})")
            for write in learner.writes:
                for path in (write.path, *write.sees):
                    check_path(learner.student.module, path, f"the student ({learner.student.name})")
            if learner.teacher is None and (needs.teacher is not None or taps_of(learner.writes)):
                how = "matches a teacher" if needs.teacher is not None else "writes what a teacher shows"
                raise BadInput(f"learner {name!r} of stage {stage.name!r} {how} but has none; give Learner(..., teacher=...)")
            for member, (teacher, taps) in learner.asks(needs).items():
                if isinstance(teacher, Pool):
                    raise BadInput(
                        f"learner {name!r} of stage {stage.name!r} has several teachers, {', '.join(teacher.members)}; say which one each "
                        "term asks, with .on(teacher=...)"
                    )
                _check_forms(stage.name, learner.loss, teacher, member)
                _check_taps(stage.name, teacher, taps)


def _check_taps(stage: str, teacher: Teacher, taps: Collection[Tap]) -> None:
    """Refuse a tap that a teacher does not give."""
    for tap in taps:
        if tap == LOGITS:
            continue
        gives = teacher.gives.taps
        if gives != "any" and str(tap) not in gives:
            can = listed(sorted(gives)) or "its logits only"
            raise BadInput(f"stage {stage!r} asks the teacher ({teacher.name}) for tap {str(tap)!r}, but it gives {can}")
        if isinstance(tap, str):
            for model in teacher.models():
                check_path(model.module, tap, f"the teacher ({model.name})")


def _check_forms(stage: str, loss: Objective, teacher: Teacher, member: str | None = None) -> None:
    """Refuse a term that reads the logits of a teacher, of that name where it is one of a pool, in none of the forms that it gives."""
    forms = sorted(teacher.gives.forms)
    for leaf in loss.leaves():
        needs = leaf.needs().anywhere
        if LOGITS not in ((needs.teacher or ()) if member is None else needs.members.get(member, ())):
            continue
        if not forms:
            raise BadInput(f"stage {stage!r}: term {leaf.name!r} reads the teacher's logits, but {teacher.name} gives none")
        reasons = [leaf.refuses(form) for form in forms]
        if None not in reasons:
            raise BadInput(
                f"stage {stage!r}: term {leaf.name!r} cannot read what {teacher.name} gives, {' or '.join(forms)} logits: {reasons[0]}; "
                "give a teacher that shows all classes (a cache: written with --keep all)"
            )
