"""Recipes: what a whole training costs by its method, over plain knowledge distillation.

Each block is a short training of its own by one recipe with its default knobs, all of its stages shortened; the recipes take turns. A stage
counts in the time of an update by its share of the updates that the defaults give it. What the gallery says of costs comes from here.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.profiler import ProfilerActivity, profile

import tutelage
from nets import BATCH, images
from timing import Row, compared
from tutelage import Fit, Frozen, Model, Plan, Run, RunOptions, Stage, Table
from tutelage.data import Data
from tutelage.recipes import listing, load, roles
from tutelage.state import Stateful

TITLE = "recipes"
NOTE = (
    "Whole trainings by each recipe at its default knobs, convolutional pair (16x16 images, width 32 to 16, 512 samples, batches of 64), "
    "each stage cut to 24 updates after 8 that are not counted. An *update* is the mean over a recipe's stages, each weighted by its share "
    "of the updates that the defaults give it. *A whole training* is that times the number of updates, so these rows are reckoned from "
    "the updates timed and not timed to their end; opening a stage, which is done once, is in neither. *Peak memory* is the most "
    "bytes of tensors that live at once (models, gradients, optimizer, activations; not the samples, nor what libraries and the allocator "
    "take besides), counted by torch's profiler."
)

PLAIN = "hinton-kd"
SAMPLES = 512
WARM, STEPS, ROUNDS = SAMPLES // BATCH, 24, 10
"""The first epoch warms: in it, a student's past is still its labels."""
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
    """Samples, and what makes the teacher and the student."""
    table, teacher, student = images(16, 32, 16)
    kept = Table({name: column[:SAMPLES] for name, column in table.columns.items()}, "train")
    return Data(kept, classes=tuple("0123456789")), teacher, student


def plan_of(name: str) -> Plan:
    """A recipe's plan at its default knobs; its models are built when the training begins.

    Raises:
        ValueError: the recipe has a role that this bench cannot fill.
    """
    data, teacher, student = bench()
    filled = {"teacher": Frozen(Model(teacher, name="teacher", seed=1)), "student": Model(student, name="student"), "data": data}
    function = load(name)
    unknown = set(roles(function)) - set(filled)
    if unknown:
        raise ValueError(f"recipe {name} has the role {sorted(unknown)[0]!r}, which benchmarks/recipes.py cannot fill; give it one")
    return function(**{role: filled[role] for role in roles(function)})


def shortened(plan: Plan, steps: int) -> tuple[Plan, dict[str, Stopwatch]]:
    """The plan with so many updates in each stage, and a watch in each."""
    watches = {stage.name: Stopwatch() for stage in plan.parts}

    def cut(stage: Stage) -> Stage:
        fit: Fit = dataclasses.replace(stage.fit, epochs=None, steps=steps)
        return dataclasses.replace(stage, fit=fit, parts=[*stage.parts, watches[stage.name]])

    return plan.map(cut), watches


def train(plan: Plan) -> None:
    """Carry it out; nothing is kept on disk."""
    tutelage.train(plan, Run(options=RunOptions(quiet=True)))


def block(name: str, steps: int = STEPS, warm: int = WARM) -> list[float]:
    """Seconds of an update in each stage of a short training."""
    plan, watches = shortened(plan_of(name), warm + steps)
    train(plan)
    return [(watch.marks[-1] - watch.marks[warm - 1]) / steps for watch in watches.values()]


def updates(name: str) -> list[int]:
    """Updates of each stage at the default knobs."""
    return [cost.steps for cost in plan_of(name).cost()]


def whole(seconds: Sequence[float], steps: Sequence[int]) -> float:
    """Seconds of a whole training, from those of an update in each stage."""
    return sum(each * count for each, count in zip(seconds, steps, strict=True))


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


def memory(name: str) -> int:
    """Peak bytes of a training by a recipe."""
    plan, _ = shortened(plan_of(name), PROFILED)
    return peak(lambda: train(plan))


def note() -> str:
    """How it was measured."""
    return NOTE


def rows(rounds: int = ROUNDS, steps: int = STEPS, warm: int = WARM) -> list[Row]:
    """Three rows of each recipe: an update, a whole training, and memory."""
    names = [each.name for each in listing()]
    taken: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(1 + rounds):  # the first round does not count
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds = block(name, steps, warm)
            if number:
                taken[name].append(seconds)
    counts = {name: updates(name) for name in names}
    totals = {name: [whole(each, counts[name]) for each in taken[name]] for name in names}
    means = {name: [each / sum(counts[name]) for each in totals[name]] for name in names}
    bytes_of = {name: memory(name) for name in names}
    made: list[Row] = []
    for name in names:
        if name == PLAIN:
            continue
        own, plain = sum(counts[name]), sum(counts[PLAIN])
        also = {"recipe": name, "updates": own, "reference_updates": plain}
        whole_of = f"a whole training, {name} ({own} updates to {plain})"
        made.append({**compared(f"an update, {name}", PLAIN, means[PLAIN], means[name], each=1), **also, "of": "update"})
        made.append({**compared(whole_of, PLAIN, totals[PLAIN], totals[name], each=1), **also, "of": "training"})
        made.append({**in_bytes(f"peak memory, {name}", PLAIN, bytes_of[PLAIN], bytes_of[name]), **also, "of": "memory"})
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
