"""The numbers of a job: what the teacher, the student alone and the student taught are worth, before and after."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from tutelage.data import Data, Source
from tutelage.evaluation import Predictions, difference, measure, predict, size_of
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Plan


def say_before(teachers: Mapping[str, Model], student: Model, data: Data, device: torch.device, quiet: bool) -> None:
    """Say, before anything is taught, how good the teacher is and how far the student stands from it: a wrong input shows here."""
    source = data.validation or data.test
    if quiet or source is None:
        return
    now = predict(student, source, device=device) if teachers else None
    for role, model in teachers.items():
        shown = predict(model, source, device=device)
        numbers = measure(shown)
        if now is None or now.logits.shape != shown.logits.shape:
            continue  # the dry run refuses this with a better message
        agreement = measure(now, shown)["agreement"]
        if "accuracy" in numbers:
            print(f"before: the {role} is right on {numbers['accuracy']:.1%} of {source.name}", file=sys.stderr, end="; ")
        else:
            print("before:", file=sys.stderr, end=" ")
        print(f"the student agrees with it on {agreement:.1%}", file=sys.stderr)


def report_of(
    plans: Mapping[str, Plan], teachers: Mapping[str, Model], data: Data, device: torch.device, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure teachers, baseline and product on the split that nothing was chosen on: the content of report.json.

    Args:
        plans: by what they make.
        teachers: by role.
        data: test is taken where there is one, else validation, else train; the report says which.
        device: where to compute.
        about: what else the report says.
    """
    split, source = _last_split(data)
    report: dict[str, Any] = {"format": 1, **about, "split": split, "samples": len(source)}
    shown: Predictions | None = None
    for role, model in teachers.items():
        said = predict(model, source, device=device)
        shown = shown or said
        report[role] = {**measure(said), **size_of(model.module)}
    ended: dict[str, Predictions] = {}
    for label, key in (("baseline", "alone"), ("student", "student")):
        if label in plans:
            plan = plans[label]
            ended[key] = predict(plan.product, source, device=device)
            numbers = measure(ended[key], shown)
            report[key] = {**numbers, **size_of(plan.product.module), "updates": plan.updates(plan.product)}
    for name, thing in plans["student"].also.items():
        if isinstance(thing, Teacher):  # an ensemble of what was made; the single models are kept, each under its name
            report[name] = measure(predict(thing, source, device=device), shown)
    if len(ended) == 2:
        report["taught_minus_alone"] = difference(ended["student"], ended["alone"])
    return report


def _last_split(data: Data) -> tuple[str, Source]:
    if data.test is not None:
        return "test", data.test
    return ("validation", data.validation) if data.validation is not None else ("train", data.train)
