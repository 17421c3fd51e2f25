"""Open a stage: build connectors by a dry run, check that teachers can give what is asked, choose what trains, wrap, and find the parts.

Nothing here moves a number of the run: the dry run is in evaluation mode, seeded apart, on two real samples.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data import Order, Source
from tutelage.errors import BadInput
from tutelage.objectives import Distance, Objective, Term, mean_of
from tutelage.randomness import seeded
from tutelage.signals import Batch, Model, Tap
from tutelage.signals.taps import LOGITS, check_path
from tutelage.state import Clock, Controller, Stateful
from tutelage.training.checkpoint import names as listed
from tutelage.training.optimizer import Average, make_optimizer
from tutelage.training.plan import Learner, Plan, Stage
from tutelage.training.run import Run
from tutelage.training.step import Step
from tutelage.training.trainee import Trainee, terms_of


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
    """A stage ready to run."""

    stage: Stage
    index: int
    source: Source | None
    order: Order | None
    steps: int
    turns: list[Turn]
    parts: dict[str, Stateful]
    union: dict[int, frozenset[Tap]]
    averages: dict[str, Average]
    masked: dict[str, dict[str, Term]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    resting: list[nn.Module] = field(default_factory=list)

    @property
    def learners(self) -> dict[str, Learner]:
        """All learners by name."""
        return self.stage.named

    @property
    def controllers(self) -> list[Controller]:
        """The parts that are controllers."""
        return [p for p in self.parts.values() if isinstance(p, Controller)]

    @property
    def optimizers(self) -> dict[str, Any]:
        """Each learner's optimizer."""
        return {name: o for turn in self.turns for name, o in turn.optimizers.items()}

    def training_mode(self) -> None:
        """Put what is trained into training mode; parts whose own parameters rest keep their statistics too."""
        for turn in self.turns:
            for model in turn.models:
                model.module.train()
        for part in self.resting:
            part.training = False


def walk(thing: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Stateful]]:
    """Find the Stateful parts in learners, objectives, distances, teachers and containers, each once, with its path."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, (str, int, float, Tensor, Model, Source)):
        return
    seen.add(id(thing))
    if isinstance(thing, Stateful):
        yield path, thing
    if isinstance(thing, Mapping):
        inner = {str(k): v for k, v in thing.items()}
    elif isinstance(thing, (list, tuple)):
        inner = {str(i): v for i, v in enumerate(thing)}
    elif isinstance(thing, Objective):
        inner = {**{k: v for k, v in vars(thing).items() if not k.startswith("_")}, **thing._modules}
    elif isinstance(thing, nn.ModuleList):
        inner = dict(thing.named_children())
    elif isinstance(thing, nn.Module):
        return
    elif isinstance(thing, Distance) or (dataclasses.is_dataclass(thing) and not isinstance(thing, type)):
        inner = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
    elif isinstance(thing, Stateful):
        inner = dict(vars(thing))
    else:
        return
    for name, value in inner.items():
        yield from walk(value, f"{path}.{name}" if path else name, seen)


def stateful_parts(stage: Stage) -> dict[str, Stateful]:
    """All Stateful parts of a stage by path."""
    return dict(walk({"learners": stage.named, "parts": list(stage.parts)}))


def check_plan(plan: Plan) -> None:
    """Check, before the first stage trains, what all stages ask of their models and teachers.

    Raises:
        BadInput: an objective without its teacher, or a tap that the teacher cannot give.
        UnknownTap: a path that is not in the model; names the nearest.
    """
    for stage in plan.parts:
        for name, learner in stage.named.items():
            if not isinstance(learner.loss, Objective):
                continue
            needs = learner.loss.needs()
            for tap in needs.student:
                if isinstance(tap, str) and tap != LOGITS:
                    check_path(learner.student.module, tap, f"the student ({learner.student.name})")
            if needs.teacher is None:
                continue
            if learner.teacher is None:
                raise BadInput(f"learner {name!r} of stage {stage.name!r} matches a teacher but has none; give Learner(..., teacher=...)")
            for tap in needs.teacher:
                if tap == LOGITS:
                    continue
                gives = learner.teacher.gives.taps
                if gives != "any" and str(tap) not in gives:
                    can = listed(sorted(gives)) or "its logits only"
                    raise BadInput(
                        f"stage {stage.name!r} asks the teacher ({learner.teacher.name}) for tap {str(tap)!r}, but it gives {can}"
                    )
                if isinstance(tap, str):
                    for model in learner.teacher.models():
                        check_path(model.module, tap, f"the teacher ({model.name})")


@contextlib.contextmanager
def open_stage(run: Run, stage: Stage, index: int) -> Iterator[Opened]:
    """Make a stage ready to run, and undo what that changed in the user's models afterwards.

    Raises:
        BadInput: nothing to train, or a combination that the engine cannot run.
    """
    source = stage.data() if callable(stage.data) else stage.data
    steps = stage.fit.updates(None if source is None else len(source))
    order = None if source is None else Order(len(source), stage.fit.batch_size, run.seed, stage.name)
    if order is not None and run.ranks > stage.fit.batch_size:
        raise BadInput(f"stage {stage.name!r}: batch_size={stage.fit.batch_size} is smaller than the {run.ranks} processes")
    probe: Batch = {} if source is None else run.place(source.batch(torch.arange(min(2, len(source))), seed=run.seed))
    learners = stage.named
    models = _models(learners)
    for model in models:
        if probe:
            model.materialize(probe)
        model.module.to(run.device)
    flags = {p: p.requires_grad for model in models for p in model.module.parameters()}
    union = _union(learners)
    parts = stateful_parts(stage)
    opened = Opened(stage, index, source, order, steps, [], parts, union, {})
    controllers = opened.controllers
    with contextlib.ExitStack() as stack:
        for controller in controllers:
            controller.open()
            stack.callback(controller.close)
        stack.callback(_restore, flags, models)
        for model in models:
            for p in model.module.parameters():
                p.requires_grad_(False)
        trained = {name: _choose(name, learner, probe) for name, learner in learners.items()}
        for name, learner in learners.items():
            _dry_run(run, opened, name, learner, probe, trained[name])
        for model in models:
            taps = union.get(id(model), frozenset()) | _teacher_taps(learners, model, union)
            if probe and taps:
                stack.enter_context(model.watching(taps, probe))
            if run.options.compile and not model.compiled:
                _compile(model, stack)
        _assemble(run, opened, trained)
        yield opened


def _models(learners: Mapping[str, Learner]) -> list[Model]:
    found: dict[int, Model] = {}
    for learner in learners.values():
        for model in [*learner.models.values(), *(learner.teacher.models() if learner.teacher else [])]:
            found[id(model)] = model
    return list(found.values())


def _union(learners: Mapping[str, Learner]) -> dict[int, frozenset[Tap]]:
    union: dict[int, frozenset[Tap]] = {}

    def add(who: Any, taps: Collection[Tap]) -> None:
        union[id(who)] = union.get(id(who), frozenset()) | frozenset(taps)

    for learner in learners.values():
        if isinstance(learner.loss, Objective):
            needs = learner.loss.needs()
            add(learner.student, needs.student)
            if learner.teacher is not None and needs.teacher is not None:
                add(learner.teacher, needs.teacher)
    return union


def _teacher_taps(learners: Mapping[str, Learner], model: Model, union: Mapping[int, frozenset[Tap]]) -> frozenset[Tap]:
    taps: frozenset[Tap] = frozenset()
    for learner in learners.values():
        if learner.teacher is not None and any(m is model for m in learner.teacher.models()):
            taps |= union.get(id(learner.teacher), frozenset())
    return taps


def _choose(name: str, learner: Learner, probe: Batch) -> dict[str, nn.Parameter]:
    """The model parameters a learner updates, by name (prefixed by the model's name where there are several)."""
    chosen: dict[str, nn.Parameter] = {}
    for label, model in learner.models.items():
        prefix = f"{label}." if len(learner.models) > 1 else ""
        own = {prefix + n: p for n, p in model.module.named_parameters()}
        if callable(learner.only):
            wanted = {prefix + n for n in learner.only(model, probe)}
        else:
            wanted = {n for pattern in learner.only for n in fnmatch.filter(own, pattern)}
            silent = [p for p in learner.only if not fnmatch.filter(own, p)] if len(learner.models) == 1 else []
            if silent and own:
                raise BadInput(
                    f"learner {name!r}: only={silent[0]!r} fits no parameter of {model.name}; they are named like {next(iter(own))!r}"
                )
        chosen |= {n: p for n, p in own.items() if n in wanted}
    if not chosen:
        raise BadInput(f"learner {name!r} trains no parameter: {learner.student.name} has none that `only` allows")
    for p in chosen.values():
        p.requires_grad_(True)
    return chosen


def _dry_run(run: Run, opened: Opened, name: str, learner: Learner, probe: Batch, trained: dict[str, nn.Parameter]) -> None:
    """Build connectors from real shapes, meet shape errors early, and find parameters that the loss never reaches."""
    if not isinstance(learner.loss, Objective):
        return
    if not probe:
        raise BadInput(
            f"learner {name!r} of stage {opened.stage.name!r} has an objective but the stage has no data; give a function of Step"
        )
    clock = Clock(opened.stage.name, 0, opened.steps, 0, 0.0, run.seed)
    with contextlib.ExitStack() as stack:
        stack.enter_context(seeded("dry-run", run.seed, opened.stage.name, name))
        stack.enter_context(learner.student.mode(training=False))
        kept = {id(c): (c, c.state_dict()) for c in opened.controllers}
        for controller in opened.controllers:
            controller.begin(clock)
        step = Step(
            probe, clock, {n: each.student for n, each in opened.learners.items()}, opened.union, run.accelerator.autocast, device=run.device
        )
        needs = learner.loss.needs()
        student = {t: s.shape for t, s in step.signals(learner.student, needs.student).items()}
        teacher = {}
        if needs.teacher is not None and learner.teacher is not None:
            teacher = {t: s.shape for t, s in step.signals(learner.teacher, needs.teacher).items()}
        for leaf in learner.loss.leaves():
            with seeded("connector", run.seed, opened.stage.name, leaf.name):
                leaf.build(student, teacher)
        learner.loss.to(run.device)
        trained |= {f"objective.{n}": p for n, p in learner.loss.named_parameters()}
        with torch.autocast(run.device.type, enabled=False):
            terms = terms_of(learner, step)
            total = sum((t.weight * mean_of(t) for t in terms), torch.zeros((), device=run.device))
        opened.masked[name] = {t.name: t for t in terms}
        if isinstance(total, Tensor) and total.requires_grad:
            found = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
            unreached = [n for n, g in zip(trained, found, strict=True) if g is None]
            if unreached:
                opened.notices.append(f"stage {opened.stage.name!r}: the loss does not reach {listed(unreached, 3)}; they stay as they are")
        else:
            raise BadInput(
                f"stage {opened.stage.name!r}: no trained parameter of {learner.student.name} influences the loss of learner {name!r}"
            )
        for term in opened.masked[name].values():
            term.values = term.values.detach()
        for controller, state in kept.values():
            controller.load_state_dict(state)


def _assemble(run: Run, opened: Opened, trained: Mapping[str, dict[str, nn.Parameter]]) -> None:
    """Wrap a trainee per turn, make the optimizers, and list the parts that rest."""
    learners, stage = opened.learners, opened.stage
    made: dict[tuple[str, ...], Turn] = {}
    fp16 = run.options.precision == "fp16"
    if fp16 and len(learners) > 1:
        raise BadInput(f"precision=fp16 takes one optimizer, stage {stage.name!r} has {len(learners)}; use bf16")
    for names in stage.turns:
        if names not in made:
            own = {n: learners[n] for n in names}
            paces = {(learner.every, learner.repeat) for learner in own.values()}
            if len(paces) > 1:
                raise BadInput(f"stage {stage.name!r}: learners that step together need the same `every` and `repeat`; {names} differ")
            trainee = Trainee(own, run.device.type)
            optimizers = [make_optimizer(own[n].fit or stage.fit, trained[n], own[n].groups) for n in names]
            _only_these(trainee, [p for n in names for p in trained[n].values()])
            wrapped, *prepared = run.accelerator.prepare(trainee, *optimizers)
            every, repeat = paces.pop()
            made[names] = Turn(own, wrapped, {n: trained[n] for n in names}, dict(zip(names, prepared, strict=True)), every, repeat)
        opened.turns.append(made[names])
    for name, learner in learners.items():
        decay = (learner.fit or stage.fit).ema
        if decay is not None:
            opened.averages[name] = Average(trained[name], decay)
    moving = {id(p) for own in trained.values() for p in own.values()}
    for turn in made.values():
        for model in turn.models:
            for part in model.module.modules():
                direct = list(part.parameters(recurse=False))
                if direct and not any(id(p) in moving for p in direct):
                    opened.resting.append(part)


def _only_these(trainee: nn.Module, parameters: list[nn.Parameter]) -> None:
    wanted = {id(p) for p in parameters}
    for p in trainee.parameters():
        p.requires_grad_(id(p) in wanted)


def select(turn: Turn, turns: list[Turn]) -> None:
    """Let gradients reach exactly what a turn trains."""
    own = {id(p) for ps in turn.parameters.values() for p in ps.values()}
    for other in turns:
        for ps in other.parameters.values():
            for p in ps.values():
                p.requires_grad_(id(p) in own)


def _compile(model: Model, stack: contextlib.ExitStack) -> None:
    model.compile()

    def undo() -> None:
        model.uncompile()

    stack.callback(undo)


def _restore(flags: Mapping[nn.Parameter, bool], models: list[Model]) -> None:
    for p, flag in flags.items():
        p.requires_grad_(flag)
        p.grad = None
    for model in models:
        model.module.eval()
