"""Recipes: what a whole training costs by its method, over plain knowledge distillation.

Each block is a short training of its own by one recipe with its default knobs, all of its stages shortened; the recipes take turns. A stage
counts in the time of an update by its share of the updates that the defaults give it. What the gallery says of costs comes from here.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import tutelage
from nets import BATCH, images
from timing import Row, compared
from tutelage import Fit, Frozen, Model, Plan, Run, RunOptions, Stage, Table
from tutelage.data import Data
from tutelage.data.stdlib_bytes import CLASSES
from tutelage.recipes import listing, load, roles
from tutelage.state import Stateful
from tutelage.students import gpt, unet, vit
from tutelage.training import Action, Trajectory
from tutelage.training.condensing import TrajectoryMatching

TITLE = "recipes"
NOTE = (
    "Whole trainings by each recipe at its default knobs, convolutional pair (16x16 images, width 32 to 16, 512 samples, batches of "
    "64), each stage cut to 24 updates after 8 that are not counted (to 4 after 1 where an update is a training of its own, in mtt and "
    "ast), in turns, ten rounds, or as many as take three minutes, but four at least. An *update* is the mean over a recipe's stages, "
    "each weighted by its share of the updates that the defaults give it. *A whole training* is that times the number of updates, so "
    "these rows are reckoned from the updates timed and not timed to their end; opening a stage, which is done once, is in neither. "
    "*Peak memory* is the most bytes of tensors that live at once (models, gradients, optimizer, activations; not the samples, nor "
    "what libraries and the allocator take besides), counted by torch's profiler. Recipes in which a model writes are held against "
    "hinton-kd on text: 128 samples of 64 bytes, small transformers (width 32 to 16) that keep nothing of what they computed before; "
    "what is written before the training counts in the whole training. Recipes that look into attention are held against hinton-kd on "
    "a pair of small vision transformers (width 32 to 16, 16 patches; *twins*: 32 to 32) and the same images. Recipes of what draws "
    "images are held against ddpm, the plain training of the same denoiser (U-Net, width 8)."
)

PLAIN = "hinton-kd"
WRITING = ("gkd", "seqkd")
"""Recipes in which a model writes, and which therefore study text."""
ATTENDING = ("minilmv2",)
"""Recipes that look into attention."""
TWINS = ("teacher-intervention",)
"""Recipes that look into attention, and whose student has the teacher's shape."""
DRAWING = ("ddpm", "dmd", "disback", "progressive-distillation", "consistency-distillation")
"""Recipes of what draws images."""
DENOISER = "ddpm"
"""What those are held against."""
SAMPLES = 512
TEXTS, LENGTH = 128, 64
"""Samples of text, and tokens of each."""
WARM, STEPS, ROUNDS = SAMPLES // BATCH, 24, 10
"""The first epoch warms: in it, a student's past is still its labels."""
SNAPSHOTS = 8
"""Of a trajectory, at least."""
SLOW = 5
"""Updates of a stage of which each is a training of its own; one does not count."""
BUDGET, FEWEST = 180.0, 4
"""Seconds of all rounds, where that is less than `ROUNDS` take; and rounds however long they take."""
PROFILED = 3
"""Updates of each stage while memory is counted; it grows no more after the optimizer's first."""


class Stopwatch(Stateful):
    """Takes the time after each step."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def after_step(self, step: Any) -> None:
        """Take the time."""
        self.marks.append(time.perf_counter())


def bench() -> tuple[Data, Callable[[], nn.Module], Callable[[], nn.Module]]:
    """Samples, images in [0, 1] as attacks want them, and what makes the teacher and the student."""
    table, teacher, student = images(16, 32, 16)
    kept = Table({name: column[:SAMPLES].sigmoid() if name == "x" else column[:SAMPLES] for name, column in table.columns.items()}, "train")
    return Data(kept, classes=tuple("0123456789")), teacher, student


def text_bench() -> tuple[Data, Callable[[], nn.Module], Callable[[], nn.Module]]:
    """Samples of text, and what makes the teacher and the student."""
    drawn = torch.randint(0, 256, (TEXTS, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    columns = {"input_ids": drawn[:, :-1].contiguous(), "y": drawn[:, 1:].contiguous(), "mask": torch.ones(TEXTS, LENGTH, dtype=torch.bool)}
    sizes = {"depth": 1, "heads": 4, "context": 2 * LENGTH}
    return Data(Table(columns, "train"), classes=CLASSES), lambda: gpt(width=32, **sizes), lambda: gpt(width=16, **sizes)


def attention_bench() -> tuple[Data, Callable[[], nn.Module], Callable[[], nn.Module]]:
    """The samples of `bench`, and transformers to look at them."""
    sizes: dict[str, Any] = {"classes": 10, "channels": 1, "size": 16, "depth": 2, "heads": 4}
    return bench()[0], lambda: vit(width=32, **sizes), lambda: vit(width=16, **sizes)


def twins_bench() -> tuple[Data, Callable[[], nn.Module], Callable[[], nn.Module]]:
    """The same with a student as large as the teacher."""
    data, teacher, _ = attention_bench()
    return data, teacher, teacher


def drawing_bench() -> tuple[Data, Callable[[], nn.Module], Callable[[], nn.Module]]:
    """The same images for denoisers, small ones that say the velocity, as halving wants it."""
    sizes: dict[str, Any] = {"channels": 1, "size": 16, "width": 8, "levels": 1, "predicts": "v"}
    return bench()[0], lambda: unet(**sizes), lambda: unet(**sizes)


BENCHES = {"images": bench, "text": text_bench, "attention": attention_bench, "twins": twins_bench, "drawing": drawing_bench}


def bench_of(name: str) -> str:
    """The bench that a recipe is measured on."""
    special = {"text": WRITING, "attention": ATTENDING, "twins": TWINS, "drawing": DRAWING}
    return next((on for on, names in special.items() if name in names), "images")


def plain_of(on: str) -> str:
    """The recipe that others are held against on a bench."""
    return DENOISER if on == "drawing" else PLAIN


def plan_of(name: str, on: str | None = None) -> Plan:
    """A recipe's plan at its default knobs; its models are built when the training begins.

    Args:
        name: of the recipe.
        on: the bench; None: its own.

    Raises:
        ValueError: the recipe has a role that this bench cannot fill.
    """
    data, teacher, student = BENCHES[on or bench_of(name)]()
    filled: dict[str, Any] = {"student": Model(student, name="student"), "data": data}
    filled |= {role: Frozen(Model(teacher, name=role, seed=seed)) for seed, role in enumerate(("teacher", "clean", "robust"), 1)}
    function = load(name)
    unknown = set(roles(function)) - set(filled)
    if unknown:
        raise ValueError(f"recipe {name} has the role {sorted(unknown)[0]!r}, which benchmarks/recipes.py cannot fill; give it one")
    return function(**{role: filled[role] for role in roles(function)})


def shortened(plan: Plan, steps: int) -> tuple[Plan, dict[str, Stopwatch]]:
    """The plan with so many updates in each stage, and a watch in each; its actions are carried out whole."""
    watches = {stage.name: Stopwatch() for stage in plan.stages}

    def cut(stage: Stage) -> Stage:
        ways = [part for part in stage.parts if isinstance(part, Trajectory)]
        for way in ways:  # as many snapshots as a later stage wants
            way.every = max(1, steps // SNAPSHOTS)
        slow = any(isinstance(learner.loss, TrajectoryMatching) for learner in stage.named.values())
        count = max(steps, SNAPSHOTS) if ways else min(steps, SLOW) if slow else steps
        fit: Fit = dataclasses.replace(stage.fit, epochs=None, steps=count)
        return dataclasses.replace(stage, fit=fit, parts=[*stage.parts, watches[stage.name]])

    return plan.map(cut), watches


def train(plan: Plan) -> None:
    """Carry it out; nothing is kept on disk."""
    tutelage.train(plan, Run(options=RunOptions(quiet=True)))


def block(name: str, steps: int = STEPS, warm: int = WARM, on: str | None = None) -> tuple[list[float], float]:
    """Seconds of an update in each stage of a short training, and of all its actions."""
    plan, watches = shortened(plan_of(name, on), warm + steps)
    acting = [_timed(part) for part in plan.parts if isinstance(part, Action)]
    train(plan)
    return [_mean(watch.marks, warm) for watch in watches.values()], sum(map(sum, acting))


def _mean(marks: Sequence[float], warm: int) -> float:
    """Seconds of an update, of those that count."""
    first = min(warm, max(1, len(marks) // 4))
    return (marks[-1] - marks[first - 1]) / (len(marks) - first)


def _timed(action: Action) -> list[float]:
    """The seconds that an action will take, once it has been carried out."""
    seconds: list[float] = []
    work = action.run

    def timed(run: Run) -> Any:
        begun = time.perf_counter()
        found = work(run)
        seconds.append(time.perf_counter() - begun)
        return found

    action.run = timed
    return seconds


def updates(name: str, on: str | None = None) -> list[int]:
    """Updates of each stage at the default knobs."""
    return [stage.updates() for stage in plan_of(name, on).stages]


def whole(seconds: Sequence[float], steps: Sequence[int], acting: float = 0.0) -> float:
    """Seconds of a whole training, from those of an update in each stage and of its actions."""
    return sum(each * count for each, count in zip(seconds, steps, strict=True)) + acting


def peak(work: Callable[[], object]) -> int:
    """The most bytes of tensors made in some work that live at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most


def memory(name: str, on: str | None = None) -> int:
    """Peak bytes of a training by a recipe."""
    plan, _ = shortened(plan_of(name, on), PROFILED)
    return peak(lambda: train(plan))


def note() -> str:
    """How it was measured."""
    return NOTE


def named() -> list[str]:
    """All recipes but those that others are held against."""
    return [each.name for each in listing() if each.name not in (PLAIN, DENOISER)]


def rows(names: Sequence[str] = (), rounds: int = ROUNDS, steps: int = STEPS, warm: int = WARM) -> list[Row]:
    """Three rows of each recipe: an update, a whole training, and memory.

    Args:
        names: of recipes; none: all.
        rounds: blocks of each recipe that count.
        steps: updates of a stage that count.
        warm: updates of a stage before those.
    """
    asked = [(name, bench_of(name)) for name in names or named()]
    benches = asked + [(plain_of(on), on) for on in dict.fromkeys(on for _, on in asked)]
    taken: dict[tuple[str, str], list[tuple[list[float], float]]] = {each: [] for each in benches}
    begun, number = time.perf_counter(), 0
    while number <= rounds:  # the first round does not count
        first = number % len(benches)
        for name, on in benches[first:] + benches[:first]:
            seconds = block(name, steps, warm, on)
            if number:
                taken[name, on].append(seconds)
        if not number:
            rounds = max(min(rounds, FEWEST), min(rounds, int(BUDGET / (time.perf_counter() - begun))))
        number += 1
    counts = {each: updates(*each) for each in benches}
    totals = {each: [whole(seconds, counts[each], acting) for seconds, acting in taken[each]] for each in benches}
    means = {each: [whole(seconds, counts[each]) / sum(counts[each]) for seconds, _ in taken[each]] for each in benches}
    bytes_of = {each: memory(*each) for each in benches}
    made: list[Row] = []
    for name, on in asked:
        against = plain_of(on)
        each, plain = (name, on), (against, on)
        own, others = sum(counts[each]), sum(counts[plain])
        where = name if on == "images" else f"{name} on {on}"
        also = {"recipe": name, "updates": own, "reference_updates": others}
        whole_of = f"a whole training, {where} ({own} updates to {others})"
        made.append({**compared(f"an update, {where}", against, means[plain], means[each], each=1), **also, "of": "update"})
        made.append({**compared(whole_of, against, totals[plain], totals[each], each=1), **also, "of": "training"})
        made.append({**in_bytes(f"peak memory, {where}", against, bytes_of[plain], bytes_of[each]), **also, "of": "memory"})
    return made


def in_bytes(what: str, against: str, reference: int, ours: int) -> Row:
    """A row of the table that counts bytes, which have no spread."""
    return {
        "what": what,
        "against": against,
        "reference_bytes": reference,
        "bytes": ours,
        "ratio": {"median": round(ours / reference, 4)},
        "target": {},
        "brief": False,
    }
