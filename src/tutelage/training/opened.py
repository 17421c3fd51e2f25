"""Opened: a stage ready to run, and its turns; who moves in a turn, and what rests."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tutelage.data import Order, Source
from tutelage.objectives import Term
from tutelage.signals import Model, Tap
from tutelage.state import Controller, Stateful
from tutelage.teachers import Views
from tutelage.training.optimizer import Average
from tutelage.training.plan import Learner, Stage, View


@dataclass
class Turn:
    """Learners that step together: one wrapped trainee, an optimizer each."""

    learners: dict[str, Learner]
    trainee: nn.Module
    parameters: dict[str, dict[str, nn.Parameter]]
    optimizers: dict[str, Any]
    every: int
    repeat: int

    @property
    def models(self) -> list[Model]:
        """What this turn updates."""
        return [model for learner in self.learners.values() for model in learner.models.values()]


@dataclass
class Opened:
    """A stage ready to run; `deferring` holds the ids of the models whose logits are deferred."""

    stage: Stage
    index: int
    source: Source | None
    order: Order | None
    steps: int
    turns: list[Turn]
    parts: dict[str, Stateful]
    union: dict[int, frozenset[Tap]]
    averages: dict[str, Average]
    views: Views | None = None
    deferring: frozenset[int] = frozenset()
    masked: dict[str, dict[str, Term]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    resting: list[nn.Module] = field(default_factory=list)

    @property
    def learners(self) -> dict[str, Learner]:
        """All learners by name."""
        return self.stage.named

    @property
    def made(self) -> dict[str, tuple[View, Model]]:
        """The views of the samples that learners have, each with the student with whose help it is made."""
        return {view: (make, learner.student) for learner in self.learners.values() for view, make in learner.views.items()}

    @property
    def controllers(self) -> list[Controller]:
        """The parts that are controllers."""
        return [p for p in self.parts.values() if isinstance(p, Controller)]

    @property
    def optimizers(self) -> dict[str, Any]:
        """Each learner's optimizer."""
        return {name: o for turn in self.turns for name, o in turn.optimizers.items()}

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All trained parameters, as "learner/name"."""
        own = {name: ps for turn in self.turns for name, ps in turn.parameters.items()}
        return {f"{name}/{n}": p for name in self.learners for n, p in own[name].items()}

    def training_mode(self, turn: Turn) -> None:
        """Put what a turn trains into training mode, and other learners' models into evaluation mode, so that nothing of theirs moves.

        Parts whose own parameters rest keep their statistics too.
        """
        own = {id(model.module) for model in turn.models}
        for other in self.turns:
            for model in other.models:
                model.module.train(id(model.module) in own)
        for part in self.resting:
            part.training = False

    def begin_turn(self, turn: Turn) -> None:
        """Let gradients, dropout and statistics reach exactly what a turn trains; nothing to do where there is only one turn."""
        if len({id(each) for each in self.turns}) > 1:
            select(turn, self.turns)
            self.training_mode(turn)


def select(turn: Turn, turns: list[Turn]) -> None:
    """Let gradients reach exactly what a turn trains."""
    own = {id(p) for ps in turn.parameters.values() for p in ps.values()}
    for other in turns:
        for ps in other.parameters.values():
            for p in ps.values():
                p.requires_grad_(id(p) in own)


def resting(learner: Learner, moving: set[int]) -> Iterator[nn.Module]:
    """The modules of a learner that rest: none of their own parameters moves; without any (batch norm without scale), `only` leaves out
    their buffers, or, where it is a function, nothing that the module around them holds moves.
    """
    for label, model in learner.models.items():
        prefix = f"{label}." if len(learner.models) > 1 else ""
        held = dict(model.module.named_modules())
        for path, part in held.items():
            direct, buffers = list(part.parameters(recurse=False)), [prefix + n for n, _ in part.named_buffers(path, recurse=False)]
            if direct:
                rests = not any(id(p) in moving for p in direct)
            elif not buffers:
                rests = False
            elif callable(learner.only):
                rests = not any(id(p) in moving for p in held[path.rpartition(".")[0]].parameters())
            else:
                rests = not any(fnmatch.filter(buffers, pattern) for pattern in learner.only)
            if rests:
                yield part
