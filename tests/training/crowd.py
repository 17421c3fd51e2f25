"""Plans that a test trains in one process and in two; each process writes what it saw. A script, not a test."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from shard_folders import write
from tutelage.data import Data, Table
from tutelage.errors import TutelageError
from tutelage.objectives import (
    CrossEntropy,
    Match,
    Needs,
    Objective,
    Term,
    cosine,
    label_mix,
    mse,
    probability_cross_entropy,
    regressor,
    soft_targets,
)
from tutelage.randomness import seeded
from tutelage.recipes.consistency_distillation import consistency_distillation
from tutelage.recipes.disback import disback
from tutelage.recipes.dmd import dmd
from tutelage.recipes.gkd import gkd
from tutelage.recipes.seqkd import seqkd
from tutelage.signals import Model, Write, detached
from tutelage.signals.cache import KeptLogits, KeptSplit, KeptTap
from tutelage.state import Controller, Stateful, drawn, during
from tutelage.students import gpt, unet
from tutelage.teachers import Cached, Frozen, PastSelf
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train


class Over(Objective):
    """Gives another objective's values with a mean over sequences, or one value a sample, unmasked."""

    def __init__(self, of: Objective, over: str) -> None:
        super().__init__()
        self.of, self.over, self.name = of, over, over

    def needs(self) -> Needs:
        return self.of.needs()

    def build(self, student, teacher) -> None:
        self.of.build(student, teacher)

    def terms(self, student, teacher, batch):
        (term,) = self.of.terms(student, teacher, batch)
        if self.over == "sequence":
            return [replace(term, name="sequence", over="sequence")]
        return [Term("sample", (term.values * batch["mask"]).sum(1))]

    def mask(self, batch):
        return batch["mask"] if self.over == "sequence" else None


class Watcher(Controller):
    """Follows a term; keeps all that it was shown, and all gradients and weights of this process."""

    def __init__(self, models: list, objectives: list) -> None:
        self.models, self.objectives = models, objectives
        self.value, self.shown, self.gradients, self.weights, self.seeds = 1.0, [], [], [], []

    def _named(self):
        for i, each in enumerate([*(m.module for m in self.models), *self.objectives]):
            for name, p in each.named_parameters():
                yield f"{i}.{name}", p

    def after_batch(self, step) -> None:
        self.seeds.append(torch.initial_seed())
        self.gradients.append({n: p.grad.clone() for n, p in self._named() if p.grad is not None})

    def after_step(self, step) -> None:
        self.weights.append({n: p.detach().clone() for n, p in self._named()})

    def update(self, record) -> None:
        self.shown.append({**{k: float(v) for k, v in record.terms.items()}, **{k: float(v) for k, v in record.notes.items()}})
        self.value = 0.9 * self.value + 0.1 * next(iter(self.shown[-1].values()))


class Stop(Stateful):
    """Asks one process to stop."""

    def __init__(self, rank: int, step: int) -> None:
        self.at = (rank, step)

    def begin_stage(self, run) -> None:
        self.rank = run.rank

    def after_step(self, step) -> None:
        if (self.rank, step.clock.step) == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def net(seed: int, width: int, drop: float = 0.0) -> Model:
    with seeded("net", seed):
        return Model(nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.LayerNorm(width), nn.Dropout(drop), nn.Linear(width, 5)))


def kept(teacher: Model, data: Table) -> Cached:
    """What a teacher shows of sequences of unequal length, in a cache of this process's own."""
    all_of_it = data.batch(torch.arange(len(data)))
    mask = all_of_it["mask"]
    taps = {"2": KeptTap("2", (11,), positions=True), "4": KeptTap("4", (5,), positions=True)}
    logits = KeptLogits("dense", 5, 5, positions=True)
    layout = KeptSplit(len(data), 5, data.fingerprint(), logits, taps, ragged=True)
    shown = Frozen(teacher).signals(all_of_it, {"logits", *taps})
    folder = Path(tempfile.mkdtemp(prefix="crowd"))
    write(folder, layout, all_of_it["id"], {-1: shown}, mask=mask)
    return Cached(folder)


def tokens(batch_size: int, micro_batch: int | None, cached: bool = False):
    """Masks of unequal length; means over tokens, sequences and samples; connectors; a weight that follows a term."""
    draw = torch.Generator().manual_seed(1)
    length = torch.randint(1, 7, (23,), generator=draw)
    mask = torch.arange(7)[None] < length[:, None]
    y = torch.where(mask, torch.randint(5, (23, 7), generator=draw), -100)
    data = Table({"x": torch.randn(23, 7, 3, generator=draw), "y": y, "mask": mask})
    student, teacher = net(1, 6), net(2, 11)
    hint = Match("2", through=regressor(), by=mse(), name="hint")
    soft = Match("logits", by=soft_targets(2.0))
    watcher = Watcher([student], [])
    loss = CrossEntropy() + watcher * hint + Over(soft, "sequence") + 0.1 * Over(Match("4", by=cosine()), "sample")
    watcher.objectives.append(loss)
    fit = Fit(steps=6, batch_size=batch_size, optimizer="sgd", lr=0.1, clip=1.0)
    shows = kept(teacher, data) if cached else Frozen(teacher)
    plan = Plan([Stage("tokens", Learner(student, loss, shows), fit, data)], student)
    return plan, RunOptions(device="cpu", quiet=True, micro_batch=micro_batch, log_every=1, share_every=2), watcher


def pair(order, drop: float = 0.0, stop: tuple[int, int] = (-1, -1)):
    """Two learners: in turns, or together; one of them a function that at times has nothing to say."""
    draw = torch.Generator().manual_seed(2)
    data = Table({"x": torch.randn(23, 3, generator=draw), "y": torch.randint(5, (23,), generator=draw)})
    a, b, teacher = net(1, 6, drop), net(2, 7, drop), net(3, 11)
    hint = Match("0", through=regressor(), by=mse(), name="hint")
    soft = CrossEntropy() + hint
    watcher = Watcher([a, b], [soft])

    def follow(step):
        if step.clock.step % 3 == 1:
            return None
        own, goal = step.signals("b", {"logits"})["logits"], step.signals("a", {"logits"})["logits"].detach()
        step.note("spread", own.std())
        return [Term("follow", (own - goal).square().mean(1))]

    fit = Fit(steps=12, batch_size=8, lr=0.02, ema=0.5)
    learners = {"a": Learner(a, soft, Frozen(teacher)), "b": Learner(b, follow)}
    stage = Stage("pair", learners, fit, data, order=order, parts=[watcher, Stop(*stop)])
    return Plan([stage], a), RunOptions(device="cpu", quiet=True, log_every=5, checkpoint_every=100), watcher


def past():
    """A student and its own past, whose table both processes must fill."""
    draw = torch.Generator().manual_seed(4)
    data = Table({"x": torch.randn(23, 3, generator=draw), "y": torch.randint(5, (23,), generator=draw)})
    student, before = net(1, 6), PastSelf(5)
    loss = Match("logits", "probabilities", by=probability_cross_entropy(), target=label_mix(0.7), name="past")
    watcher = Watcher([student], [loss])
    fit = Fit(steps=12, batch_size=7, optimizer="sgd", lr=0.5)
    plan = Plan([Stage("past", Learner(student, loss, before), fit, data, parts=[watcher])], student)
    return plan, RunOptions(device="cpu", quiet=True, log_every=1, share_every=0), watcher


def writing(recipe, **knobs):
    """A small language model on text that it, or its teacher, writes."""
    ids = torch.randint(0, 11, (13, 7), generator=torch.Generator().manual_seed(6))
    columns = {"input_ids": ids[:, :-1].contiguous(), "y": ids[:, 1:].contiguous(), "mask": torch.ones(13, 6, dtype=torch.bool)}
    teacher, student = (Model(lambda: gpt(classes=11, width=8, depth=1, heads=2, context=6), seed=s) for s in (3, 1))
    fit = Fit(steps=5, batch_size=5, optimizer="sgd", lr=0.5)
    plan = recipe(Frozen(teacher), student, Data(Table(columns), classes=tuple("abcdefghijk")), prompt=2, tokens=4, fit=fit, **knobs)
    watcher = Watcher([student], [])
    plan = plan.map(lambda stage: replace(stage, parts=[*stage.parts, watcher]))
    return plan, RunOptions(device="cpu", quiet=True, log_every=1, share_every=0), watcher


def written(batch_size: int, micro_batch: int | None):
    """A teacher's activations in a student's pass, at first there, then elsewhere, and gradients that stop."""
    draw = torch.Generator().manual_seed(8)
    data = Table({"x": torch.randn(23, 3, generator=draw), "y": torch.randint(5, (23,), generator=draw)})
    student, teacher = net(1, 6), net(2, 6)
    loss = CrossEntropy() + Match("0", by=mse(), name="low") + Match("2", by=mse(), name="high")
    watcher = Watcher([student], [loss])
    mix = Write("2", by=lambda own, seen: 0.5 * seen.teacher["1"] + seen.student["0"], reads=["1"], sees=["0"], when=during(2, 4))
    writes = [Write("0", by="0", when=during(0, 3)), mix, Write("4", by=detached, side="input", when=drawn(0, 2))]
    fit = Fit(steps=6, batch_size=batch_size, optimizer="sgd", lr=0.1)
    stage = Stage("written", Learner(student, loss, Frozen(teacher), writes=writes), fit, data, parts=[watcher])
    return Plan([stage], student), RunOptions(device="cpu", quiet=True, micro_batch=micro_batch, log_every=1, share_every=0), watcher


def painting(recipe, **knobs):
    """A generator that learns from a small denoiser."""
    draw = torch.Generator().manual_seed(9)
    data = Data(Table({"x": torch.rand(13, 1, 4, 4, generator=draw), "y": torch.randint(3, (13,), generator=draw)}), classes=tuple("abc"))
    options = {"classes": 3, "size": 4, "width": 4, "levels": 0}
    teacher, student = (Model(lambda: unet(**options), seed=s) for s in (3, 1))
    with seeded("painting"):
        for p in teacher.module.parameters():
            nn.init.normal_(p, std=0.2)
    fit = Fit(steps=6, batch_size=5, lr=1e-2, ema=0.5)
    plan = recipe(Frozen(teacher), student, data, fit=fit, **knobs)
    watcher = Watcher([student], [])
    plan = plan.map(lambda stage: replace(stage, parts=[*stage.parts, watcher]))
    return plan, RunOptions(device="cpu", quiet=True, log_every=1, share_every=0), watcher


CASES = {
    "dmd": lambda: painting(dmd, updates=2, times=(600, 200), adversarial=0.1, regression=0.1, pairs=4, pair_steps=2),
    "disback": lambda: painting(disback, updates=2, nodes=2, walk=0.5, degrade_fit=Fit(steps=4, batch_size=5, lr=1e-2)),
    "consistency": lambda: painting(consistency_distillation, grid=4),
    "written": lambda: written(7, None),
    "written-micro": lambda: written(7, 2),
    "past": past,
    "gkd": lambda: writing(gkd, on_policy=0.6),
    "seqkd": lambda: writing(seqkd, at_once=4),
    "tokens": lambda: tokens(8, None),
    "uneven": lambda: tokens(7, None),
    "uneven-micro": lambda: tokens(7, 2),
    "cached": lambda: tokens(7, 2, cached=True),
    "turns": lambda: pair(["a", "b", "a"]),
    "together": lambda: pair([("a", "b")]),
    "dropout": lambda: pair(["a", "b"], drop=0.5),
    "stopped": lambda: pair(["a", "b"], drop=0.5, stop=(1, 6)),
}


def go(case: str, folder: Path, made=None) -> dict:
    """Train a case; gives, and keeps on disk, what this process saw."""
    plan, options, watcher = made or CASES[case]()
    run = Run(folder / case, seed=5, options=options)
    try:
        train(plan, run)
        ended = 0
    except TutelageError as error:
        ended = error.exit_code
    seen = {"shown": watcher.shown, "gradients": watcher.gradients, "weights": watcher.weights}
    seen |= {"seeds": watcher.seeds, "ended": ended}
    torch.save(seen, folder / f"{case}-rank{run.rank}.pt")
    return seen


if "CHILD" in globals():
    rank, ranks, port, place, cases = globals()["CHILD"]
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for case in cases:
        go(case.removesuffix("-again"), Path(place))
    torch.distributed.destroy_process_group()
    sys.exit(0)
