"""Equal budgets: how long each recipe may train, its stages sharing what there is in the proportion of their defaults."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tutelage.errors import BadInput
from tutelage.evaluation import predict
from tutelage.state import Stateful
from tutelage.training import Fit, Plan, Run, RunOptions, Stage, train

PROBED = 40
"""Updates of each stage whose time is taken, at most."""
WARM = 8
"""The first of them, which are not counted: they find memory, and the processor's speed."""


@dataclass(frozen=True)
class Speed:
    """How fast a recipe trains.

    Args:
        stages: seconds of an update, by stage.
        validation: seconds of measuring the product on the validation split, as is done while training; 0 where there is none.
    """

    stages: Mapping[str, float]
    validation: float = 0.0

    def seconds(self, plan: Plan) -> float:
        """How long a plan would take, with what is measured meanwhile."""
        total = 0.0
        for part in plan.stages:
            size, steps = part.size(), part.updates()
            watched = any(m is plan.product for each in part.named.values() for m in each.models.values())
            times = part.fit.measurements(steps, size) if watched else 0.0
            total += steps * self.stages[part.name] + times * self.validation
        return total


def updates_of(plan: Plan) -> int:
    """Updates of all stages together."""
    return sum(part.updates() for part in plan.stages)


def scaled(
    knobs: Mapping[str, Any],
    make: Callable[[Mapping[str, Any]], Plan],
    size: int,
    amount: float,
    cost: Callable[[Plan], float] = updates_of,
) -> dict[str, Any]:
    """Knobs with which a recipe costs as much as the budget allows and no more: every `Fit` is lengthened or shortened by one factor.

    Args:
        knobs: of the recipe.
        make: builds its plan from knobs.
        size: number of training samples.
        amount: the budget, in what `cost` counts.
        cost: of a plan; never falls where a `Fit` grows.

    Returns:
        The knobs, with durations in steps.

    Raises:
        BadInput: no `Fit` among the knobs, or the shortest training costs more than the budget.
    """
    fits = {name: knob for name, knob in knobs.items() if isinstance(knob, Fit)}
    if not fits:
        raise BadInput("it has no knob of the kind Fit, so its length cannot be set")
    shares = {name: fit.updates(size) for name, fit in fits.items()}
    whole = sum(shares.values())

    def at(updates: int, more: Mapping[str, int] | None = None) -> dict[str, Any]:
        steps = {name: max(1, (2 * updates * share + whole) // (2 * whole)) + (more or {}).get(name, 0) for name, share in shares.items()}
        return {**knobs, **{name: replace(fit, epochs=None, steps=steps[name]) for name, fit in fits.items()}}

    def costs(updates: int, more: Mapping[str, int] | None = None) -> float:
        return cost(make(at(updates, more)))

    least = costs(0)
    if least > amount:
        raise BadInput(f"its shortest training costs {least:,.3g}, more than the budget of {amount:,.3g}")
    low, high = 0, max(1, whole)
    while (there := costs(high)) <= amount and costs(2 * high) > there:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if costs(middle) <= amount else (low, middle)
    # what rounding has left goes to the longest that can take it
    more: dict[str, int] = {}
    for name in sorted(shares, key=lambda n: -shares[n]):
        now = costs(low, more)
        each = costs(low, {**more, name: more.get(name, 0) + 1}) - now
        if each > 0 and amount - now >= each:
            more[name] = int((amount - now) // each)
    return at(low, more)


class Stopwatch(Stateful):
    """A part of a stage that takes the time after each of its steps."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.begun = 0.0

    def begin_stage(self, run: Any) -> None:
        """Take the time."""
        self.begun = time.perf_counter()

    def after_step(self, step: Any) -> None:
        """Take the time."""
        self.times.append(time.perf_counter())

    def per_step(self) -> float:
        """Mean seconds of a step, the first few left out."""
        all_of_them = [self.begun, *self.times]
        times = all_of_them[min(WARM, len(all_of_them) - 2) :]
        return (times[-1] - times[0]) / (len(times) - 1)


def probe(folder: Path, **training: Any) -> dict[str, Any]:
    """Measure how fast a recipe trains: the trial in which a budget of minutes is turned into updates.

    Args:
        folder: not used; nothing of the probe is kept but its numbers.
        training: see `trainings.prepared`.

    Returns:
        What `Speed` takes.
    """
    from tutelage.jobs.comparison.trainings import prepared

    ready = prepared(**{**training, "knobs": _short(training["knobs"])})
    watches = {part.name: Stopwatch() for part in ready.plan.stages}

    def watched(stage: Stage) -> Stage:
        return replace(stage, parts=[*stage.parts, watches[stage.name]])

    run = Run(None, seed=training["seed"], options=RunOptions(quiet=True), limit=PROBED, views=ready.views)
    train(ready.plan.map(watched), run)
    validation = 0.0
    if ready.data.validation is not None:
        for _ in range(2):  # the second time is the one that counts
            start = time.perf_counter()
            with torch.no_grad():
                predict(ready.plan.product, ready.data.validation, device=run.device)
            validation = time.perf_counter() - start
    return {"stages": {name: watch.per_step() for name, watch in watches.items()}, "validation": validation}


def _short(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs with durations just long enough to be timed."""
    return {
        name: {**knob, "epochs": None, "steps": PROBED} if isinstance(knob, Mapping) and {"epochs", "steps"} <= set(knob) else knob
        for name, knob in knobs.items()
    }
