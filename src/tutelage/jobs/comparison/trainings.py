"""The trainings of a comparison, each carried out in whatever process a trial has: a teacher, or a student by one recipe and one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.data import Data, Source
from tutelage.evaluation import measure, predict
from tutelage.evaluation.language import is_language, measure_tokens, told
from tutelage.jobs import models, sources
from tutelage.jobs.cached import Handle, answering, cached_from, is_cache, views_of
from tutelage.jobs.distill import distill
from tutelage.jobs.measurement import last_split
from tutelage.jobs.roles import filled, handles_of
from tutelage.jobs.settings import changed_fit, chosen_knobs
from tutelage.recipes import load
from tutelage.signals import Model
from tutelage.teachers import Teacher, Views
from tutelage.training import Fit, Plan, RunOptions

MEASURED = ("accuracy", "macro_f1", "nll", "ece", "agreement", "perplexity", "likelihood", "entropy", "forward_kl", "reverse_kl")
COSTS = ("model", "parameters", "bytes", "flops", "latency_ms", "throughput")


@dataclass(frozen=True)
class Prepared:
    """A recipe with its models and data, ready to train.

    Args:
        plan: what would be trained.
        data: what is studied.
        handles: the models, and caches, by role.
        views: that are studied in turn; None for a new one each epoch.
    """

    plan: Plan
    data: Data
    handles: Mapping[str, Handle]
    views: Views | None = None

    def teacher_on(self, split: str, source: Source) -> Model | Teacher | None:
        """Who answers for the teacher on a split; None where there is none, or its cache holds nothing of it."""
        handle = self.handles.get("teacher")
        return None if handle is None else answering(handle, split, source)


def prepared(
    *,
    recipe: str,
    roles: Mapping[str, str],
    data: str,
    knobs: Mapping[str, Any],
    seed: int,
    trust_code: bool = False,
    instead: Mapping[str, str] | None = None,
    views: int | None = None,
) -> Prepared:
    """Build a recipe's plan.

    Args:
        recipe: name, or file.py:function.
        roles: who takes part, by role, as a user would name them.
        data: likewise.
        knobs: of the recipe, plain values.
        seed: of the run.
        trust_code: let a run folder name a .py file whose code then runs.
        instead: by role, the run folder of a model that was trained for the comparison, to be taken instead.
        views: augmented views of each sample that are studied in turn; None for a new one each epoch, or those of a cache.
    """
    function = load(recipe)
    handles, studied = handles_of(function, recipe, {**roles, **(instead or {})}, sources.data_from(data), seed, trust_code)
    chosen = chosen_knobs(function, recipe, knobs)
    return Prepared(function(**filled(function, handles, studied), **chosen), studied, handles, views_of(handles, views, seed))


def student(folder: Path, **training: Any) -> dict[str, Any]:
    """Train a student in a run folder of its own; a run that was interrupted there goes on.

    Args:
        folder: the run folder.
        training: see `prepared`.

    Returns:
        `validation` and `test`, the numbers of the product on the split that is chosen on and on the last one; `seconds` of the training,
        None where it was interrupted or begun before, and nobody has counted; and `models`, what student and teacher are and cost.
    """
    seed, trust_code = training["seed"], training.get("trust_code", False)
    begun = any((folder / kept).is_dir() and any((folder / kept).iterdir()) for kept in ("checkpoints", "stages"))
    roles = {**training["roles"], **(training.get("instead") or {})}
    result = distill(
        **{"data": training["data"], "recipe": training["recipe"], **roles, **training["knobs"]},
        out=folder,
        seed=seed,
        views=training.get("views"),
        baseline=False,
        resume=True,
        trust_code=trust_code,
        options=RunOptions(quiet=True),
    )
    assert result.model is not None
    report, studied = result.report, sources.data_from(training["data"])
    split, chosen_on = chosen_split(studied)
    teacher = None
    if "teacher" in roles and not studied.train.labelled:  # agreement is all that can be measured then
        given = roles["teacher"]
        handle = (
            cached_from(given, "teacher", studied)
            if is_cache(given)
            else models.model_from(given, "teacher", data=studied, seed=seed, trust_code=trust_code)
        )
        teacher = answering(handle, split, chosen_on)
    shown = ("student", *(["teacher"] if "teacher" in report["models"] else []))
    return {
        "validation": numbers_of(result.model, chosen_on, teacher),
        "test": {k: report["student"][k] for k in MEASURED if k in report["student"]},
        "seconds": None if begun else result.seconds["student"],
        "models": {
            name: {k: report[name].get(k) for k in COSTS} | {"test": {k: report[name][k] for k in MEASURED if k in report[name]}}
            for name in shown
        },
    }


def teacher(folder: Path, *, model: str, data: str, fit: Mapping[str, Any], seed: int, trust_code: bool = False) -> dict[str, Any]:
    """Train a teacher on the labels, in a run folder of its own.

    Args:
        folder: the run folder.
        model: as a user would name it.
        data: likewise.
        fit: duration and optimizer.
        seed: of the run.
        trust_code: let a run folder name a .py file whose code then runs.

    Returns:
        `test`: its numbers.
    """
    fit_of = changed_fit(Fit(epochs=1), fit, "teacher_fit")
    given: dict[str, Any] = {"student": model, "data": data, "recipe": "alone", "fit": fit_of}
    result = distill(**given, out=folder, seed=seed, baseline=False, resume=True, trust_code=trust_code, options=RunOptions(quiet=True))
    return {"test": {k: result.report["student"][k] for k in MEASURED if k in result.report["student"]}}


def sound(found: Mapping[str, Any], metric: str) -> bool:
    """Whether what is kept of a training has the form of what `student` gives; a file may have been changed.

    Args:
        found: from the file.
        metric: that must be among the numbers, as a share.
    """

    def number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def numbers(values: Any) -> bool:
        known = isinstance(values, Mapping) and all(map(number, values.values()))
        return known and number(values.get(metric)) and 0 <= values[metric] <= 1

    shown = found.get("models")
    models = isinstance(shown, Mapping) and "student" in shown and all(isinstance(each, Mapping) for each in shown.values())
    seconds = found.get("seconds", "")
    return models and numbers(found.get("validation")) and numbers(found.get("test")) and (seconds is None or number(seconds))


def chosen_split(data: Data) -> tuple[str, Source]:
    """The split that the ranking is made on, with its name: validation where there is one."""
    return ("validation", data.validation) if data.validation is not None else last_split(data)


def numbers_of(model: Model, source: Source, teacher: Model | Teacher | None = None) -> dict[str, float]:
    """A model's numbers on a source, where the model is.

    Args:
        model: who answers.
        source: the samples.
        teacher: with whom it may agree.
    """
    device = next(model.module.parameters(), torch.empty(0)).device
    if is_language(source):
        there = {"model": model} | ({} if teacher is None else {"teacher": teacher})
        said = told(there, source, reference=None if teacher is None else "teacher", device=device)
        return measure_tokens(said["model"])
    answers = predict(model, source, device=device)
    return dict(measure(answers, None if teacher is None else predict(teacher, source, device=device)))
