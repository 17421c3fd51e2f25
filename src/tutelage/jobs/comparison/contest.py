"""A comparison's parts, one after the other: the teacher, the speeds, the tuning, all trainings; and what they say together."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.data import Data
from tutelage.errors import BadInput, Failed
from tutelage.evaluation import processor
from tutelage.jobs import pool
from tutelage.jobs.comparison import budget, ranking, tuning
from tutelage.jobs.comparison.contenders import Contender, refused, some_of
from tutelage.jobs.comparison.trainings import chosen_split, sound
from tutelage.jobs.environment import environment
from tutelage.jobs.measurement import class_names, last_split
from tutelage.jobs.progress import Progress
from tutelage.jobs.settings import plain
from tutelage.jobs.trials import Outcome, Trial, carry_out
from tutelage.training import Fit

FORMAT = 1
"""Of compare.json."""

ROOM = __name__.rpartition(".")[0]
"""Where the functions of trials are."""

Scaled = tuple[list[Contender], dict[str, dict[str, Any]], list[dict[str, str]]]
"""Contenders that can keep a budget, the knobs with which they do, and the others, with the reason."""


@dataclass(frozen=True)
class Task:
    """What all trials share.

    Args:
        roles: who takes part, by role, as the user named them.
        data: likewise.
        studied: the data.
        seed: the first that is compared.
        seeds: how many are.
        trust_code: let a run folder name a .py file whose code then runs.
        place: the comparison's folder.
        instead: by role, the run folder of a model that is trained for the comparison.
        metric: of which more is better: accuracy, agreement with the teacher where there are no labels, likelihood of language models.
        views: augmented views of each sample that all study in turn, since the teacher's cache knows no others; None for a new one each
            epoch.
    """

    roles: Mapping[str, str]
    data: str
    studied: Data
    seed: int
    seeds: int
    trust_code: bool
    place: Path
    instead: Mapping[str, str]
    metric: str
    views: int | None = None

    def training(self, contender: Contender, knobs: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """What decides a training; see `trainings.prepared`."""
        roles = {role: spec for role, spec in self.roles.items() if role in contender.handles}
        views = {} if self.views is None else {"views": self.views}
        return {"recipe": contender.recipe, "roles": roles, "data": self.data, "knobs": contender.plain(knobs), "seed": seed, **views}

    def aside(self, contender: Contender) -> dict[str, Any]:
        """What else a training takes, which changes nothing about it."""
        return {"trust_code": self.trust_code, "instead": {r: f for r, f in self.instead.items() if r in contender.handles}}

    @property
    def all_seeds(self) -> list[int]:
        """Those that are compared."""
        return [self.seed + number for number in range(self.seeds)]

    @property
    def tuning_seed(self) -> int:
        """None of the compared ones."""
        return self.seed - 1


def budgeted(found: list[Contender], amount: int | None, named: bool) -> Scaled:
    """Set the durations of all recipes so that each keeps a budget.

    Args:
        found: the recipes.
        amount: updates of one training; None leaves them as they are by themselves.
        named: whether the user named the recipes, so that none may be left out.

    Raises:
        BadInput: one that was named cannot keep it, or none can.
    """
    if amount is None:
        return found, {each.name: dict(each.knobs) for each in found}, []
    return _scaled(found, lambda each: (amount, budget.updates_of), named, "updates")


def _scaled(found: list[Contender], of: Callable[[Contender], tuple[float, Any]], named: bool, unit: str) -> Scaled:
    knobs: dict[str, dict[str, Any]] = {}
    left_out = []
    for each in found:
        amount, cost = of(each)
        try:
            knobs[each.name] = budget.scaled(each.knobs, each.plan, len(each.data.train), amount, cost)
        except BadInput as error:
            left_out.append(refused(each.name, BadInput(f"recipe {each.name} cannot keep the budget in {unit}: {error}"), named))
    return some_of([each for each in found if each.name in knobs], left_out), knobs, left_out


def train_teacher(task: Task, fit: Fit, engaged: pool.Pool, shown: Progress) -> float:
    """Train the teacher, and say how long it took.

    Raises:
        Failed: it could not be trained.
    """
    settings = {"model": task.roles["teacher"], "data": task.data, "fit": plain(fit), "seed": task.seed}
    trial = Trial("teacher", f"{ROOM}.trainings:teacher", settings, aside={"trust_code": task.trust_code})
    shown.part("teacher", 1)
    outcome = carry_out([trial], task.place, engaged, told=shown.told)["teacher"]
    if outcome.error is not None:
        raise Failed(f"the teacher could not be trained: {outcome.error}; see {task.place / 'teacher.log'}")
    return outcome.seconds


@dataclass
class _OneByOne:
    """An engine that has room for one call at a time, so that what is timed is timed alone."""

    engine: pool.Pool
    threads: int
    workers: int = 1

    def submit(self, function: Any, *arguments: Any) -> Any:
        return self.engine.submit(function, *arguments)


def at_speed(task: Task, found: list[Contender], seconds: float, engaged: pool.Pool, shown: Progress, named: bool) -> tuple[Scaled, float]:
    """Measure how fast each recipe trains, one after the other, and give it as many updates as fit into the time.

    Args:
        task: what all share.
        found: the recipes.
        seconds: that one training may take.
        engaged: where to measure.
        shown: hears how far it is.
        named: whether the user named the recipes, so that none may be left out for being too slow.

    Returns:
        As `budgeted`, and how long the measuring took.
    """
    trials = {
        each.name: Trial(each.slug, f"{ROOM}.budget:probe", task.training(each, each.knobs, task.seed), aside=task.aside(each))
        for each in found
    }
    shown.part("measuring speeds", len(trials))
    alone_there = _OneByOne(engaged, engaged.threads)
    outcomes = carry_out(list(trials.values()), task.place / "probes", alone_there, told=shown.told)
    speeds: dict[str, budget.Speed] = {}
    left_out = []
    for each in found:
        outcome = outcomes[each.slug]
        if outcome.found is None:
            left_out.append(refused(each.name, BadInput(f"recipe {each.name} could not be timed: {outcome.error}"), False))
        else:
            try:
                speeds[each.name] = budget.Speed(
                    {k: float(v) for k, v in outcome.found["stages"].items()}, float(outcome.found["validation"])
                )
                speeds[each.name].seconds(each.plan())
            except (KeyError, TypeError, ValueError, AttributeError):
                raise _damaged(task.place / "probes" / f"{each.slug}.json") from None
    kept, knobs, more = _scaled(
        some_of([each for each in found if each.name in speeds], left_out),
        lambda each: (seconds, functools.partial(budget.Speed.seconds, speeds[each.name])),
        named,
        "seconds",
    )
    return (kept, knobs, [*left_out, *more]), sum(o.seconds for o in outcomes.values())


def tune_all(
    task: Task,
    found: Sequence[Contender],
    knobs: Mapping[str, Mapping[str, Any]],
    amount: int,
    storage: str | None,
    engaged: pool.Pool,
    shown: Progress,
) -> dict[str, tuning.Tuned]:
    """Tune all recipes; see `tuning.tune`."""
    shown.part("tuning", None)
    trainings = [
        (each, task.training(each, knobs[each.name], task.tuning_seed), budget.updates_of(each.plan(knobs[each.name])), task.aside(each))
        for each in found
    ]
    return tuning.tune(trainings, amount, task.place / "tuning", engaged, metric=task.metric, storage=storage, told=shown.told)


def train_all(
    task: Task, found: Sequence[Contender], knobs: Mapping[str, Mapping[str, Any]], engaged: pool.Pool, shown: Progress
) -> dict[str, Outcome]:
    """Each recipe with each seed, by the trial's name; seed after seed, so that recipes are level wherever it is stopped."""
    trials = [
        Trial(
            _trial(each, seed),
            f"{ROOM}.trainings:student",
            task.training(each, knobs[each.name], seed),
            aside=task.aside(each),
        )
        for seed in task.all_seeds
        for each in found
    ]
    shown.part("trainings", len(trials))
    return carry_out(trials, task.place / "trials", engaged, told=shown.told)


def _damaged(file: Path) -> BadInput:
    return BadInput(f"{file} is damaged; delete it, and what it says is found out again")


def _trial(contender: Contender, seed: int) -> str:
    return f"{contender.slug}-seed-{seed}"


def findings(
    task: Task,
    found: Sequence[Contender],
    knobs: Mapping[str, Mapping[str, Any]],
    tuned: Mapping[str, tuning.Tuned],
    outcomes: Mapping[str, Outcome],
    left_out: list[dict[str, str]],
) -> dict[str, Any]:
    """The content of compare.json, less the budget and the time."""
    seeds: dict[str, dict[str, dict[str, Any]]] = {}
    failed: dict[str, list[dict[str, Any]]] = {}
    shown: dict[str, Mapping[str, Any]] = {}
    counts = {each.name: budget.updates_of(each.plan(knobs[each.name])) for each in found}
    for each in found:
        seeds[each.name], failed[each.name] = {}, []
        for seed in task.all_seeds:
            outcome = outcomes[_trial(each, seed)]
            if outcome.found is None:
                failed[each.name].append({"seed": seed, "error": outcome.error})
                continue
            if not sound(outcome.found, task.metric):
                raise _damaged(task.place / "trials" / f"{_trial(each, seed)}.json")
            shown |= {k: v for k, v in outcome.found["models"].items() if k not in shown}
            row = {k: outcome.found[k] for k in ("validation", "test", "seconds")}
            seeds[each.name][str(seed)] = {**row, "updates": counts[each.name], "folder": f"trials/{_trial(each, seed)}"}
    split, source = last_split(task.studied)
    chosen_on, chosen_source = chosen_split(task.studied)
    gaps = ranking.differences(seeds, task.metric, len(source))
    order = ranking.ranked(seeds, task.metric)
    by_name = {each.name: each for each in found}
    now = environment(task.seed)
    return {
        "format": FORMAT,
        "data": task.studied.name,
        "split": split,
        "samples": len(source),
        "chosen_on": {"split": chosen_on, "samples": len(chosen_source)},
        "metric": task.metric,
        "classes": class_names(task.studied),
        "teacher": shown.get("teacher"),
        "student": {k: v for k, v in shown["student"].items() if k != "test"} if "student" in shown else {"model": task.roles["student"]},
        "recipes": order,
        "results": {
            name: {
                "paper": _paper(by_name[name]),
                "updates": counts[name],
                "knobs": by_name[name].plain(knobs[name]),
                "tuning": tuned[name].report if name in tuned else None,
                "seeds": seeds[name],
                "failed": failed[name],
                **ranking.summary(seeds[name], task.metric, len(source), len(chosen_source)),
                "cost": ranking.cost(seeds, name),
            }
            for name in order
        },
        "left_out": left_out,
        "differences": gaps,
        "winner": ranking.winner(seeds, task.metric),
        "said": ranking.said(seeds, task.metric, gaps, chosen_on, split),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": processor("cuda" if torch.cuda.is_available() else "cpu"),
        "versions": now["versions"],
    }


def _paper(contender: Contender) -> dict[str, Any] | None:
    paper = contender.function.about.paper  # type: ignore[attr-defined]
    return None if paper is None else {k: v for k, v in asdict(paper).items() if k != "claim"}
