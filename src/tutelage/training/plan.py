"""Plan: what a recipe builds and the loop runs. A list of stages, each with its learners, its data and its duration.

Building a plan runs nothing: no pass, no draw, no file; a resumed run builds it again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from tutelage.data import Source
from tutelage.errors import BadInput, nearest
from tutelage.objectives import Needs, Objective, Term
from tutelage.randomness import seeded
from tutelage.signals import Batch, Model, Tap, Write
from tutelage.signals.writes import taps_of
from tutelage.state import Stateful
from tutelage.teachers import Pool, Teacher
from tutelage.training.action import Action
from tutelage.training.fit import Fit

if TYPE_CHECKING:
    from tutelage.training.step import Step

LossFunction: TypeAlias = "Callable[[Step], list[Term] | None]"
View: TypeAlias = "Callable[[Step, Model], Batch]"
"""Makes another batch of a step's samples with the student's help: attacked, mixed, generated. What it draws, it draws by `step.rng`."""
Which: TypeAlias = "Sequence[str] | Callable[[Model, Batch], Collection[str]]"


@dataclass(frozen=True)
class Learner:
    """Who is updated, by which loss.

    Args:
        trains: a model, a module, or several by name.
        loss: an objective, or a function of the step that gives terms; None from it means no update this time, on every process.
        teacher: who is asked for the teacher's signals; a `Pool` of several for objectives that are `.on(teacher=name)`.
        only: which parameters: shell patterns over their names, or `(model, batch) -> names`, such as `up_to(tap)`.
        fit: optimizer knobs; None takes the stage's. Its duration is not used.
        groups: by parameter pattern, what differs: {"lr": ..., "weight_decay": ...}.
        views: other views of the samples by name, for objectives that are `.on(view)`; made once a step, from the student as it is then.
        writes: changes of the student's passes under this learner's objective, by what its teacher showed; see `Write`.
        every: update at each `every`-th step of the stage.
        repeat: updates in a row within a step.

    Raises:
        BadInput: nothing to train, an objective over several models, one on a view that is not among `views` or with a teacher that is not
            in the pool, or writes beside a function.
    """

    trains: Model | nn.Module | Mapping[str, Model | nn.Module]
    loss: Objective | LossFunction
    teacher: Teacher | None = None
    only: Which = ("*",)
    fit: Fit | None = None
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    writes: Sequence[Write] = ()
    every: int = 1
    repeat: int = 1

    def __post_init__(self) -> None:
        if self.every < 1 or self.repeat < 1:
            raise BadInput(f"Learner(every={self.every}, repeat={self.repeat}): expected at least 1")
        if not self.models:
            raise BadInput("a Learner must train at least one model")
        if isinstance(self.loss, Objective) and len(self.models) > 1:
            raise BadInput(
                f"an objective compares one student, but the learner trains {list(self.models)}; give a function of Step as its loss"
            )
        if self.writes and not isinstance(self.loss, Objective):
            raise BadInput("a Learner with writes needs an objective as its loss: a function of Step makes its own passes")
        needs = self.loss.needs() if isinstance(self.loss, Objective) else Needs()
        for name in needs.anywhere.members:
            if name not in self.taught:
                known = sorted(str(each) for each in self.taught if each is not None)
                raise BadInput(
                    f"the objective asks the teacher {name!r}, but the learner has {known or 'no pool of them'}{nearest(name, known)}; "
                    "give Learner(..., teacher=Pool({name: teacher}))"
                )
        for view in needs.views:
            if view not in self.views:
                raise BadInput(
                    f"the objective looks at the view {view!r}, but the learner has {sorted(self.views) or 'none'}"
                    f"{nearest(view, self.views)}; give Learner(..., views={{name: function}})"
                )

    @functools.cached_property
    def models(self) -> dict[str, Model]:
        """What is trained, as handles by name."""
        given = self.trains if isinstance(self.trains, Mapping) else {"model": self.trains}
        return {name: each if isinstance(each, Model) else Model(each, name=name) for name, each in given.items()}

    @functools.cached_property
    def taught(self) -> dict[str | None, Teacher]:
        """Who can be asked: the teacher under None, and the members of a pool by name."""
        found: dict[str | None, Teacher] = {} if self.teacher is None else {None: self.teacher}
        found.update(self.teacher.members if isinstance(self.teacher, Pool) else {})
        return found

    def asks(self, needs: Needs, writes: bool = True) -> dict[str | None, tuple[Teacher, frozenset[Tap]]]:
        """Who is asked for what an objective and, if so wanted, the writes need, and for which taps, in the view that the needs are of."""
        wanted: dict[str | None, frozenset[Tap]] = {} if needs.teacher is None else {None: needs.teacher}
        written = taps_of(self.writes) if writes else frozenset()
        if written:
            wanted[None] = wanted.get(None, frozenset()) | written
        wanted.update(needs.members)
        return {name: (self.taught[name], taps) for name, taps in wanted.items() if name in self.taught}

    @property
    def student(self) -> Model:
        """The one model that an objective speaks about."""
        return next(iter(self.models.values()))


@dataclass(frozen=True)
class Stage:
    """A part of a plan that trains.

    Args:
        name: unique in the plan.
        learners: one learner, or several by name.
        fit: duration, and the optimizer knobs of learners without their own.
        data: samples; or a function that decides when the stage opens; None for steps without data.
        order: names of the learners in the order in which they are updated within a step; a tuple steps together on shared passes.
            Default: one after the other.
        parts: what is Stateful and not found by walking the learners.

    Raises:
        BadInput: `order` names an unknown learner or leaves one out, or two learners have different views of one name.
    """

    name: str
    learners: Mapping[str, Learner] | Learner
    fit: Fit
    data: Source | Callable[[], Source] | None = None
    order: Sequence[str | tuple[str, ...]] | None = None
    parts: Sequence[Stateful] = ()

    def __post_init__(self) -> None:
        named = {name for turn in self.turns for name in turn}
        if named != set(self.named):
            raise BadInput(f"stage {self.name!r}: order names {sorted(named)}, but its learners are {sorted(self.named)}")
        found: dict[str, View] = {}
        for learner in self.named.values():
            for view, made in learner.views.items():
                if found.setdefault(view, made) is not made:
                    raise BadInput(f"stage {self.name!r}: two learners have different views named {view!r}; give them different names")

    @property
    def named(self) -> dict[str, Learner]:
        """The learners by name; a single one is called "student"."""
        return dict(self.learners) if isinstance(self.learners, Mapping) else {"student": self.learners}

    @property
    def turns(self) -> list[tuple[str, ...]]:
        """The learners that step together, turn by turn."""
        order = list(self.named) if self.order is None else self.order
        return [turn if isinstance(turn, tuple) else (turn,) for turn in order]

    def size(self) -> int | None:
        """Number of samples; None without data, or where the data are decided later."""
        return len(self.data) if isinstance(self.data, Source) else None

    def updates(self) -> int:
        """Steps of the stage."""
        return self.fit.updates(self.size())

    def updates_of(self, name: str) -> int:
        """How often a learner is updated: at each `every`-th step from the first on, `repeat` times, at each place in `order`."""
        learner = self.named[name]
        return -(-self.updates() // learner.every) * learner.repeat * sum(name in turn for turn in self.turns)


@dataclass(frozen=True)
class Cost:
    """What a plan will do, part by part; see `Plan.cost`.

    Args:
        stage: name of the stage or action.
        steps: updates.
        samples: samples studied, counted with repetition.
        passes: (role, model, samples through it, taps wanted, trained) of each model.
        asked: (teacher, taps wanted) of each teacher.
        views: names of other views of the samples; of what it takes to make them nothing is known.
    """

    stage: str
    steps: int
    samples: int
    passes: Sequence[tuple[str, Model, int, frozenset[Tap], bool]]
    asked: Sequence[tuple[Teacher, frozenset[Tap]]] = ()
    views: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """Stages and actions in sequence, and what they make.

    Args:
        parts: the stages, and the actions between them.
        product: what is exported.
        also: other things worth keeping, by name.
        baseline: what the product is compared with; None means training alone, with the product's own number of updates.

    Raises:
        BadInput: no stages, or two parts of one name.
    """

    parts: Sequence[Stage | Action]
    product: Model
    also: Mapping[str, Any] = field(default_factory=dict)
    baseline: Plan | None = None

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if not self.stages or len(set(names)) != len(names):
            raise BadInput(f"a plan needs at least one stage, and distinct names; it has {names}")

    @property
    def stages(self) -> list[Stage]:
        """The parts that train."""
        return [part for part in self.parts if isinstance(part, Stage)]

    def __add__(self, other: Plan) -> Plan:
        return Plan([*self.parts, *other.parts], other.product, {**self.also, **other.also}, other.baseline)

    def map(self, change: Callable[[Stage], Stage]) -> Plan:
        """The same plan with each stage changed: how one recipe wraps another."""
        parts = [change(part) if isinstance(part, Stage) else part for part in self.parts]
        return Plan(parts, self.product, self.also, self.baseline)

    def updates(self, model: Model) -> int:
        """How often a model is updated."""
        return sum(
            part.updates_of(name)
            for part in self.stages
            for name, learner in part.named.items()
            if any(m is model for m in learner.models.values())
        )

    def cost(self) -> list[Cost]:
        """What each part will do: for dry runs and fair comparison. Builds no model. Of an action nothing but its name is known."""
        costs = []
        for part in self.parts:
            if isinstance(part, Action):
                costs.append(Cost(part.name, 0, 0, []))
                continue
            steps = part.updates()
            samples = steps * part.fit.batch_size
            passes: list[tuple[str, Model, int, frozenset[Tap], bool]] = []
            asked: dict[int, tuple[Teacher, frozenset[Tap]]] = {}
            for name, learner in part.named.items():
                needs = learner.loss.needs().anywhere if isinstance(learner.loss, Objective) else None
                times = part.updates_of(name) * part.fit.batch_size
                for model in learner.models.values():
                    passes.append((name, model, times, needs.student if needs else frozenset({"logits"}), True))
                for teacher, taps in learner.asks(needs or Needs(teacher=frozenset({"logits"}))).values():
                    asked[id(teacher)] = (teacher, (taps or frozenset({"logits"})) | asked.get(id(teacher), (None, frozenset()))[1])
            for teacher, taps in asked.values():
                passes += [("teacher", model, samples, taps, False) for model in teacher.models()]
            views = sorted({view for learner in part.named.values() for view in learner.views})
            costs.append(Cost(part.name, steps, samples if part.data is not None else 0, passes, list(asked.values()), views))
        return costs


def up_to(*taps: Tap) -> Callable[[Model, Batch], Collection[str]]:
    """The parameters that taps depend on: `Learner(only=up_to(tap))` trains the part of a model below it and nothing above.

    Found by a gradient on a real batch, so parameters that no module path shows (a class token) are not missed.
    """

    def names(model: Model, batch: Batch) -> Collection[str]:
        parameters = dict(model.module.named_parameters())
        before = {name: p.requires_grad for name, p in parameters.items()}
        try:
            for p in parameters.values():
                p.requires_grad_(True)
            with seeded("up-to"), model.mode(training=False), torch.enable_grad():
                shown = model.observe(batch, set(taps))
                signal = torch.stack([shown[tap].float().sum() for tap in taps]).sum()
                found = torch.autograd.grad(signal, list(parameters.values()), allow_unused=True)
        finally:
            for name, p in parameters.items():
                p.requires_grad_(before[name])
        return {name for name, g in zip(parameters, found, strict=True) if g is not None}

    return names
