"""Pool: several teachers side by side, each asked by its name where an objective says so."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tutelage.errors import BadInput
from tutelage.signals import Batch, Model, Signals, Tap
from tutelage.teachers.teacher import Gives, Teacher


class Pool(Teacher):
    """Several teachers, each for what it knows: `Match(...).on(teacher="robust")` asks the one of that name, and only where it says so.

    Each member is asked once a batch and view, and only in the views in which a term wants it; what they say is not mixed (`Ensemble`
    does that).

    Args:
        members: teachers by name.

    Raises:
        BadInput: no members, or members that know different views of samples.
    """

    def __init__(self, members: Mapping[str, Teacher]) -> None:
        if not members:
            raise BadInput("a Pool needs at least one teacher")
        views = {m.gives.views for m in members.values()} - {None}
        if len(views) > 1:
            raise BadInput(f"the teachers of a Pool know different views of samples: {sorted((v.count, v.seed) for v in views if v)}")
        self.members = dict(members)
        self.name = "pool of " + ", ".join(f"{name} ({m.name})" for name, m in self.members.items())
        self.gives = Gives(
            forms=frozenset(),
            new_inputs=all(m.gives.new_inputs for m in self.members.values()),
            views=next(iter(views), None),
        )

    def signals(self, batch: Batch, taps: Collection[Tap], *, view: str | None = None) -> Signals:
        """Refused: one of several must be named.

        Raises:
            BadInput: always.
        """
        raise BadInput(f"there are several teachers, {', '.join(self.members)}: say which one is asked, with .on(teacher=...)")

    def models(self) -> list[Model]:
        """The members' models."""
        return [model for member in self.members.values() for model in member.models()]
