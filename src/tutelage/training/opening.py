"""Open a stage: build connectors by a dry run, check that teachers can give what is asked, choose what trains, wrap, and find the parts.

Nothing here moves a number of the run: the dry run is in evaluation mode, seeded apart, on two real samples.
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data import Order, Source
from tutelage.errors import BadInput
from tutelage.objectives import Needs, Objective, Shapes, mean_of
from tutelage.randomness import seeded
from tutelage.signals import Batch, Model, Tap
from tutelage.state import Clock
from tutelage.teachers import Views
from tutelage.training.checkpoint import names as listed
from tutelage.training.deferral import deferred_models
from tutelage.training.demands import check_plan
from tutelage.training.memory import must_fit
from tutelage.training.opened import Opened, Turn, resting
from tutelage.training.optimizer import Average, make_optimizer
from tutelage.training.parts import stateful_parts
from tutelage.training.plan import Learner, Plan, Stage
from tutelage.training.run import Run
from tutelage.training.step import Step
from tutelage.training.trainee import Trainee, seen_by, terms_of


def rehearse(run: Run, plan: Plan, leave_out: Collection[int] = ()) -> None:
    """Check a plan and go through the dry run of its stages, so that what does not fit shows before anything trains for long.

    Stages whose data are decided later are left out. Connectors are built as they will be when the stage opens.

    Args:
        run: where.
        plan: its stages.
        leave_out: stages that need no rehearsal, by their place.

    Raises:
        BadInput: what `open_stage` raises; also ShapeMismatch and UnknownTap.
    """
    check_plan(plan)
    for index, stage in enumerate(plan.parts):
        if index in leave_out or not isinstance(stage, Stage):
            continue
        if stage.data is None or isinstance(stage.data, Source):
            with open_stage(run, stage, index, rehearsal=True):
                pass


@contextlib.contextmanager
def open_stage(run: Run, stage: Stage, index: int, rehearsal: bool = False) -> Iterator[Opened]:
    """Make a stage ready to run, and undo what that changed in the user's models afterwards.

    Args:
        run: where.
        stage: which.
        index: its place in the plan.
        rehearsal: stop after the dry run: nothing is watched, compiled, wrapped or optimized.

    Raises:
        BadInput: nothing to train, or a combination that the engine cannot run.
    """
    source = stage.data() if callable(stage.data) else stage.data
    steps = stage.fit.updates(None if source is None else len(source))
    views = views_of(run, stage, source)
    count = views.count if views is not None and views.count else None
    order = None if source is None else Order(len(source), stage.fit.batch_size, run.seed, stage.name, count)
    if order is not None and run.ranks > stage.fit.batch_size:
        raise BadInput(f"stage {stage.name!r}: batch_size={stage.fit.batch_size} is smaller than the {run.ranks} processes")
    if order is not None and source is not None:
        _check_batch(run, stage, source)
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
    opened = Opened(stage, index, source, order, steps, [], parts, union, {}, views)
    controllers = opened.controllers
    with contextlib.ExitStack() as stack:
        for controller in controllers:
            controller.open()
            stack.callback(controller.close)
        stack.callback(_restore, flags, [m for each in learners.values() for m in each.models.values()])
        updated = {id(m.module) for each in learners.values() for m in each.models.values()}
        for model in models:
            if id(model.module) not in updated:  # once, rather than at each of the teacher's passes
                stack.enter_context(model.mode(training=False))
        for part in parts.values():
            part.begin_stage(run)
        for model in models:
            for p in model.module.parameters():
                p.requires_grad_(False)
        trained = {name: _choose(name, learner, probe, flags) for name, learner in learners.items()}
        deferring = deferred_models(run, learners, probe, stack)
        if deferring:
            opened.deferring = frozenset(map(id, deferring))
            opened.notices.append(
                f"stage {stage.name!r}: the logits of {listed([model.name for model in deferring])} are made some tokens at a time"
            )
        for name, learner in learners.items():
            _dry_run(run, opened, name, learner, probe, trained[name])
            if isinstance(learner.loss, Objective):
                flags.update({p: p.requires_grad for p in learner.loss.parameters()})
        if rehearsal:
            yield opened
            return
        for model in models:
            taps = union.get(id(model), frozenset()) | _teacher_taps(learners, model, union)
            writes = [w for each in learners.values() if each.student is model for w in each.writes]
            if probe and (taps or writes):
                stack.enter_context(model.watching(taps, probe, writes))
            if run.options.compile and not model.compiled:
                model.compile()
                stack.callback(model.uncompile)
        _assemble(run, opened, trained)
        stack.callback(run.release, [turn.trainee for turn in opened.turns], list(opened.optimizers.values()))
        yield opened


def views_of(run: Run, stage: Stage, source: Source | None) -> Views | None:
    """The views in which a stage's samples are studied: those that its teachers know, else what the run says; None means a new one each
    epoch.

    Raises:
        BadInput: its teachers and the run want different ones, or a teacher knows plain samples only and the data draw new views.
    """
    known = {t.gives.views: t for learner in stage.named.values() if (t := learner.teacher) is not None and t.gives.views is not None}
    if not known:
        return run.views
    views, teacher = next(iter(known.items()))
    wanted = {*known, *([run.views] if run.views else [])}
    if len(wanted) > 1:
        said = ", ".join(f"{count} with seed {seed}" for count, seed in sorted((v.count, v.seed) for v in wanted if v))
        raise BadInput(f"stage {stage.name!r}: its teachers and the run want different views of the samples: {said}")
    if views is not None and not views.count and source is not None and source.varies():
        raise BadInput(
            f"stage {stage.name!r} studies augmented samples of {source.name}, but {teacher.name} knows plain ones only; "
            "write the cache with --views, or leave the augmentation out"
        )
    return views


def _check_batch(run: Run, stage: Stage, source: Source) -> None:
    """Refuse a batch that cannot fit: its places in the order, and the samples of one pass."""
    share = -(-stage.fit.batch_size // run.ranks)
    columns = source.batch(torch.arange(1), seed=run.seed).values()
    sample = sum(column.numel() * column.element_size() for column in columns if isinstance(column, Tensor))
    needed = 16 * stage.fit.batch_size + sample * min(share, run.options.micro_batch or share)
    must_fit(needed, f"stage {stage.name!r}: a batch of {stage.fit.batch_size:,}", "lower batch_size, or set micro_batch")


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
            for teacher, taps in learner.asks(needs).values():
                add(teacher, taps)
    return union


def _teacher_taps(learners: Mapping[str, Learner], model: Model, union: Mapping[int, frozenset[Tap]]) -> frozenset[Tap]:
    taps: frozenset[Tap] = frozenset()
    for learner in learners.values():
        for teacher in learner.taught.values():
            if any(m is model for m in teacher.models()):
                taps |= union.get(id(teacher), frozenset())
    return taps


def _choose(name: str, learner: Learner, probe: Batch, flags: Mapping[nn.Parameter, bool]) -> dict[str, nn.Parameter]:
    """The model parameters a learner updates, by name (prefixed by the model's name where there are several).

    What the user froze (`requires_grad` False: a backbone below adapters) stays frozen, whatever `only` says.
    """
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
        chosen |= {n: p for n, p in own.items() if n in wanted and flags[p]}
    if not chosen:
        raise BadInput(
            f"learner {name!r} trains no parameter: {learner.student.name} has none that `only` allows and that requires a gradient"
        )
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
            probe,
            clock,
            {n: each.student for n, each in opened.learners.items()},
            opened.union,
            run.autocast,
            device=run.device,
            views=opened.made,
            deferring=opened.deferring,
        )
        needs = learner.loss.needs()
        looked: list[tuple[str | None, Needs]] = [(None, needs), *needs.views.items()]
        seen = {view: seen_by(learner, inner, step, view) for view, inner in looked}
        for leaf in learner.loss.leaves():
            told = seen[leaf.teacher_view].teacher
            told = told.members.get(leaf.member) if told is not None and leaf.member is not None else told
            with seeded("connector", run.seed, opened.stage.name, leaf.name):
                leaf.build(_shapes(seen[leaf.view].student), _shapes(told or {}))
        learner.loss.to(run.device)
        trained |= {f"objective.{n}": p for n, p in learner.loss.named_parameters() if p.requires_grad}
        with run.plain():
            terms = terms_of(learner, needs, step)
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


def _shapes(shown: Mapping[Tap, Any]) -> Shapes:
    """Of what student or teacher showed."""
    return {tap: signal.shape for tap, signal in shown.items()}


def _assemble(run: Run, opened: Opened, trained: Mapping[str, dict[str, nn.Parameter]]) -> None:
    """Wrap a trainee per turn, make an optimizer per learner, and list the parts that rest."""
    learners, stage = opened.learners, opened.stage
    made: dict[tuple[str, ...], Turn] = {}
    optimizers: dict[str, Any] = {}
    if run.options.precision == "fp16" and len(learners) > 1:
        raise BadInput(f"precision=fp16 takes one optimizer, stage {stage.name!r} has {len(learners)}; use bf16")
    for names in stage.turns:
        if names not in made:
            own = {n: learners[n] for n in names}
            paces = {(learner.every, learner.repeat) for learner in own.values()}
            if len(paces) > 1:
                raise BadInput(f"stage {stage.name!r}: learners that step together need the same `every` and `repeat`; {names} differ")
            trainee = Trainee(own, run.plain)
            new = [n for n in names if n not in optimizers]
            fresh = [make_optimizer(own[n].fit or stage.fit, trained[n], own[n].groups) for n in new]
            _only_these(trainee, [p for n in names for p in trained[n].values()])
            wrapped, *prepared = run.accelerator.prepare(trainee, *fresh) if fresh else [run.accelerator.prepare(trainee)]
            optimizers |= dict(zip(new, prepared, strict=True))
            every, repeat = paces.pop()
            made[names] = Turn(own, wrapped, {n: trained[n] for n in names}, {n: optimizers[n] for n in names}, every, repeat)
        opened.turns.append(made[names])
    for name, learner in learners.items():
        fit = learner.fit or stage.fit
        if fit.ema is not None:
            opened.averages[name] = Average(trained[name], fit.ema)
        if fit.keep == "best" and run.watch is None:
            opened.notices.append(f"stage {stage.name!r}: keep='best' has no validation to go by; the last weights are kept")
        opened.resting += resting(learner, {id(p) for own in trained.values() for p in own.values()})


def _only_these(trainee: nn.Module, parameters: list[nn.Parameter]) -> None:
    wanted = {id(p) for p in parameters}
    for p in trainee.parameters():
        p.requires_grad_(id(p) in wanted)


def _restore(flags: Mapping[nn.Parameter, bool], trained: list[Model]) -> None:
    for p, flag in flags.items():
        p.requires_grad_(flag)
        p.grad = None
    for model in trained:
        model.module.eval()
