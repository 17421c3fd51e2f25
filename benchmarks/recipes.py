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
from tutelage.students import gpt, vit
from tutelage.training import Action

TITLE = "recipes"
NOTE = (
    "Whole trainings by each recipe at its default knobs, convolutional pair (16x16 images, width 32 to 16, 512 samples, batches of 64), "
    "each stage cut to 24 updates after 8 that are not counted. An *update* is the mean over a recipe's stages, each weighted by its share "
    "of the updates that the defaults give it. *A whole training* is that times the number of updates, so these rows are reckoned from "
    "the updates timed and not timed to their end; opening a stage, which is done once, is in neither. *Peak memory* is the most "
    "bytes of tensors that live at once (models, gradients, optimizer, activations; not the samples, nor what libraries and the allocator "
    "take besides), counted by torch's profiler. Recipes in which a model writes are held against hinton-kd on text: 128 samples of 64 "
    "bytes, small transformers (width 32 to 16) that keep nothing of what they computed before; what is written before the training "
    "counts in the whole training. Recipes that look into attention are held against hinton-kd on a pair of small vision transformers "
    "(width 32 to 16, 16 patches) and the same images."
)

PLAIN = "hinton-kd"
WRITING = ("gkd", "seqkd")
ATTENDING = ("minilmv2",)
"""Recipes that look into attention."""
"""Recipes in which a model writes, and which therefore study text."""
SAMPLES = 512
TEXTS, LENGTH = 128, 64
"""Samples of text, and tokens of each."""
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


BENCHES = {"images": bench, "text": text_bench, "attention": attention_bench}


def bench_of(name: str) -> str:
    """The bench that a recipe is measured on."""
    return "text" if name in WRITING else "attention" if name in ATTENDING else "images"


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
        fit: Fit = dataclasses.replace(stage.fit, epochs=None, steps=steps)
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
    return [(watch.marks[-1] - watch.marks[warm - 1]) / steps for watch in watches.values()], sum(map(sum, acting))


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


def rows(rounds: int = ROUNDS, steps: int = STEPS, warm: int = WARM) -> list[Row]:
    """Three rows of each recipe: an update, a whole training, and memory."""
    names = [each.name for each in listing()]
    benches = [(name, bench_of(name)) for name in names] + [(PLAIN, on) for on in BENCHES if on != bench_of(PLAIN)]
    taken: dict[tuple[str, str], list[tuple[list[float], float]]] = {each: [] for each in benches}
    for number in range(1 + rounds):  # the first round does not count
        first = number % len(benches)
        for name, on in benches[first:] + benches[:first]:
            seconds = block(name, steps, warm, on)
            if number:
                taken[name, on].append(seconds)
    counts = {each: updates(*each) for each in benches}
    totals = {each: [whole(seconds, counts[each], acting) for seconds, acting in taken[each]] for each in benches}
    means = {each: [whole(seconds, counts[each]) / sum(counts[each]) for seconds, _ in taken[each]] for each in benches}
    bytes_of = {each: memory(*each) for each in benches}
    made: list[Row] = []
    for name, on in benches:
        if name == PLAIN:
            continue
        each, plain = (name, on), (PLAIN, on)
        own, others = sum(counts[each]), sum(counts[plain])
        where = name if on == "images" else f"{name} on {on}"
        also = {"recipe": name, "updates": own, "reference_updates": others}
        whole_of = f"a whole training, {where} ({own} updates to {others})"
        made.append({**compared(f"an update, {where}", PLAIN, means[plain], means[each], each=1), **also, "of": "update"})
        made.append({**compared(whole_of, PLAIN, totals[plain], totals[each], each=1), **also, "of": "training"})
        made.append({**in_bytes(f"peak memory, {where}", PLAIN, bytes_of[plain], bytes_of[each]), **also, "of": "memory"})
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
