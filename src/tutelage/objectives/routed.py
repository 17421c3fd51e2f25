"""Routed: an objective on a view of the samples, or with one teacher of several. Written as `objective.on(view, teacher=...)`."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.errors import BadInput, nearest
from tutelage.objectives.objective import SAME, Around, Needs, Objective, Seen, Term
from tutelage.signals import Batch, Signals


class Routed(Around):
    """An objective elsewhere; inside it all is as if the view were the batch, and the teacher the only one.

    Args:
        of: the objective.
        view: where the student is asked, and whose batch is studied; None for the samples as they are.
        member: who is asked, by its name in a pool of teachers; None for the learner's only teacher.
        teacher_view: where the teacher is asked; None for the samples as they are.

    Raises:
        BadInput: nothing is said, or what the objective says already, or it asks no teacher that could be chosen.
    """

    def __init__(self, of: Objective, view: str | None, member: str | None = None, teacher_view: str | None = SAME) -> None:
        super().__init__(of)
        inner = of.needs()
        if view is None and member is None and teacher_view in (SAME, None):
            raise BadInput(f"{of.name!r}.on() says nothing; expected a view, or teacher=...")
        if inner.views and (view is not None or teacher_view != SAME):
            raise BadInput(f"{of.name!r} looks at the view {next(iter(inner.views))!r} already; a view of a view is none of the learner's")
        if inner.views and member is not None:
            raise BadInput(f"{of.name!r} looks at the view {next(iter(inner.views))!r}; say both at once: .on(view, teacher={member!r})")
        if inner.members and member is not None:
            raise BadInput(f"{of.name!r} asks the teacher {next(iter(inner.members))!r} already, and cannot ask {member!r}")
        if inner.teacher is None and not inner.members and (member is not None or teacher_view != SAME):
            raise BadInput(f"{of.name!r} asks no teacher, so there is none to choose")
        self._view, self._member = view, member
        self._teacher_view = view if teacher_view == SAME else teacher_view
        self.name = of.name
        self.view = view if view is not None else of.view
        self.teacher_view = self._teacher_view if self._teacher_view is not None else of.teacher_view
        self.member = member if member is not None else of.member

    def needs(self) -> Needs:
        """What the inner objective reads, in the views and of the teacher that were said."""
        inner = self.of.needs()
        teacher, members = inner.teacher, inner.members
        if self._member is not None:
            teacher, members = None, {self._member: inner.teacher or frozenset()}
        if inner.views:
            return Needs(inner.student, teacher, inner.views, members)
        return _in(self._view, Needs(inner.student)) | _in(self._teacher_view, Needs(teacher=teacher, members=members))

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """The inner terms there."""
        seen = Seen(student, teacher, batch) if self._view is None else self._seen(student, self._view)
        told = seen.teacher
        if self._teacher_view != self._view:
            told = teacher if self._teacher_view is None else self._seen(student, self._teacher_view).teacher
        if self._member is not None:
            known = {} if told is None else told.members
            if self._member not in known:
                raise BadInput(
                    f"term {self.name!r} asks the teacher {self._member!r}, but there are {sorted(known) or 'none of that kind'}"
                    f"{nearest(self._member, known)}; give Learner(..., teacher=Pool({{name: teacher}}))"
                )
            told = known[self._member]
        return self.of.terms(seen.student, told, seen.batch)

    def _seen(self, student: Signals, view: str) -> Seen:
        seen = student.views.get(view)
        if seen is None:
            raise BadInput(f"term {self.name!r} looks at the view {view!r}, which was not made; give Learner(..., views={{{view!r}: ...}})")
        return seen

    def leaves(self) -> Iterator[Objective]:
        """The inner leaves, each there."""
        elsewhere = self._teacher_view if self._teacher_view != self._view else SAME
        for leaf in self.of.leaves():
            if leaf is self.of:
                yield self
            elif self._member is None and self._view is None and leaf.needs().teacher is None and not leaf.needs().members:
                yield leaf
            else:
                asks = leaf.needs().teacher is not None or bool(leaf.needs().members)
                yield Routed(leaf, self._view, self._member if asks else None, elsewhere if asks else SAME)


def _in(view: str | None, needs: Needs) -> Needs:
    return needs if view is None else Needs(views={view: needs})
