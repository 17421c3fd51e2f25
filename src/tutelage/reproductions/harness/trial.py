"""What one process does for a reproduction: train a fixture, or carry out one arm under one seed and measure it."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model
from torch import nn

from tutelage.data import Data
from tutelage.evaluation import measure, predict
from tutelage.jobs import models
from tutelage.jobs.roles import filled
from tutelage.jobs.settings import chosen_knobs, plain
from tutelage.randomness import derive
from tutelage.recipes import load as recipe_named
from tutelage.recipes import roles
from tutelage.reproductions import load
from tutelage.reproductions.harness import store
from tutelage.reproductions.harness.design import Arm, Made, Reproduction
from tutelage.signals import Model
from tutelage.training import Plan, Run, RunOptions, train

PREFIX_SAMPLES = 500
"""Test samples that a replayed prefix is measured on."""


def trial(
    *, folder: Path, reproduction: str, kind: str, name: str, seed: int, tried: int | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Carry out one piece of a reproduction.

    Args:
        folder: not used: nothing is kept but what is returned, and fixtures in the store.
        reproduction: its name or file.
        kind: "fixture" or "arm".
        name: of the fixture or arm.
        seed: of data, weights and order.
        tried: which of the arm's tries; None for its knobs as they are.
        limit: end each stage after so many updates, and record the loss of each.

    Returns:
        Of an arm `numbers` (see `Reproduction.measured`), `validation`, `updates`, `seconds` of the training alone, and with a limit
        `losses` by stage and term. Of a fixture `weights`.
    """
    claim = load(reproduction)
    if kind == "fixture":
        weights, losses = _fixture(claim, name, seed, limit, anew=limit is not None)
        return {"weights": str(weights), "losses": losses}
    arm = claim.arms[name]
    data = (arm.data or claim.data)(seed)
    teacher = _handle(claim, arm, seed, limit)
    seen = _some(data, limit)
    if arm.recipe is None:
        assert teacher is not None
        return {"numbers": _measured(claim, seen, teacher), "updates": 0}
    plan = planned(arm, data, teacher, seed, tried, start=_start(claim, arm, seed, limit), others=_others(claim, arm, seed, limit))
    losses, seconds = _trained(plan, seed, limit)
    found: dict[str, Any] = {"updates": plan.updates(plan.product), "seconds": seconds}
    found["numbers"] = _measured(claim, seen, plan.product, plan, teacher)
    if data.validation is not None and limit is None:
        said = measure(predict(plan.product, data.validation))
        found |= {"validation": said["accuracy"]} if "accuracy" in said else {}  # what draws images has none
    return {**found, "losses": losses} if limit is not None else found


def planned(
    arm: Arm,
    data: Data,
    teacher: Model | None,
    seed: int,
    tried: int | None = None,
    salt: str = "student",
    start: Path | None = None,
    others: Mapping[str, Model] | None = None,
) -> Plan:
    """What an arm will do under a seed; builds no model.

    Args:
        arm: with a recipe.
        data: what it studies.
        teacher: what it learns from, where it does.
        seed: decides on the first weights, so that arms are paired.
        tried: which of its tries.
        salt: what the weights are drawn for.
        start: weights that it begins with instead.
        others: by role, what it learns from where these are several.
    """
    assert arm.recipe is not None
    function = _recipe(arm)
    spec = arm.student if start is None else _with_weights(arm.student, start)
    student = models.model_from(spec, "student", data=data, seed=derive("weights", seed, salt))
    handles = {"student": student, **({} if teacher is None else {r: teacher for r in roles(function) if r not in ("student", "data")})}
    handles |= others or {}
    return function(**filled(function, handles, data), **knobs(arm, tried))


def knobs(arm: Arm, tried: int | None = None) -> dict[str, Any]:
    """The knobs of an arm's recipe, its defaults filled in."""
    given: dict[str, Any] = dict(arm.knobs)
    for name, value in (arm.tries[tried] if tried is not None else {}).items():
        given[name] = {**given.get(name, {}), **value} if isinstance(value, Mapping) else value
    return chosen_knobs(_recipe(arm), str(arm.recipe), given)


def _recipe(arm: Arm) -> Callable[..., Plan]:
    assert arm.recipe is not None
    return arm.recipe if callable(arm.recipe) else recipe_named(arm.recipe)


def _trained(plan: Plan, seed: int, limit: int | None) -> tuple[dict[str, list[float]], float]:
    losses: dict[str, list[float]] = {}

    def note(line: Mapping[str, Any]) -> None:
        for term, value in line.get("terms", {}).items():
            losses.setdefault(f"{line['stage']}/{term}", []).append(value)

    options = RunOptions(device="cpu", quiet=True, share_every=0, log_every=20 if limit is None else 1)
    start = time.perf_counter()
    train(plan, Run(None, seed=seed, options=options, track=note, limit=limit))
    return losses, time.perf_counter() - start


def _fixture(claim: Reproduction, name: str, seed: int, limit: int | None, anew: bool = False) -> tuple[Path, dict[str, list[float]]]:
    """The weights of a fixture, and the losses of its training where it was trained now: where it is missing, or shall be made anew."""
    arm, seed = claim.fixtures[name], claim.seed_of(name, seed)
    data = (arm.data or claim.data)(seed)
    start = _start(claim, arm, seed, limit)
    losses: dict[str, list[float]] = {}
    content = {
        "code": store.code(),
        "recipe": arm.recipe if isinstance(arm.recipe, str) else inspect.getsource(arm.recipe) if arm.recipe else None,
        "knobs": {k: plain(v) for k, v in knobs(arm).items()},
        "student": arm.student,
        "data": data.fingerprint(),
        "seed": seed,
        "limit": limit,
        "from": None if arm.fixture is None else str(_fixture(claim, arm.fixture, seed, limit)[0]),
        "start": None if start is None else str(start),
    }

    def make() -> tuple[Model, Mapping[str, Any]]:
        plan = planned(arm, data, _handle(claim, arm, seed, limit), seed, salt=f"fixture {name}", start=start)
        losses.update(_trained(plan, derive("fixture", name, seed), limit)[0])
        return plan.product, content

    folder = store.cache() / "fixtures" / f"{name}-{store.key(content)}"
    if anew:
        store.keep(folder, *make())
    return store.fixture(folder, make), losses


def _handle(claim: Reproduction, arm: Arm, seed: int, limit: int | None) -> Model | None:
    """The model that an arm learns from, its weights read when it is used."""
    if arm.fixture is None:
        return None
    return _taught(claim, arm.fixture, seed, limit)


def _others(claim: Reproduction, arm: Arm, seed: int, limit: int | None) -> dict[str, Model]:
    """By role, the models that an arm learns from where these are several."""
    return {role: _taught(claim, fixture, seed, limit) for role, fixture in arm.teachers.items()}


def _taught(claim: Reproduction, fixture: str, seed: int, limit: int | None) -> Model:
    weights, _ = _fixture(claim, fixture, seed, limit)
    made = claim.fixtures[fixture]
    seen = (made.data or claim.data)(claim.seed_of(fixture, seed))
    if not made.student.startswith("hf:"):
        return models.model_from(_with_weights(made.student, weights), "teacher", data=seen, seed=0)
    own = models.model_from(made.student, "teacher", data=seen, seed=0)  # its spec says where its own weights come from
    taught = own.changed(lambda module: _filled(module, weights), own.spec)
    taught.trained = True
    return taught


def _filled(module: nn.Module, weights: Path) -> nn.Module:
    if not any(p.is_meta for p in module.parameters()):  # of a skeleton only shapes are asked
        load_model(module, str(weights))
    return module


def _start(claim: Reproduction, arm: Arm, seed: int, limit: int | None) -> Path | None:
    """The weights that an arm's student begins with, where it does not draw its own."""
    return None if arm.start is None else _fixture(claim, arm.start, seed, limit)[0]


def _with_weights(spec: str, weights: Path) -> str:
    return f"{spec}{',' if ':' in spec else ':'}weights={json.dumps(str(weights))}"


def _measured(claim: Reproduction, data: Data, product: Model, plan: Plan | None = None, teacher: Model | None = None) -> dict[str, float]:
    assert data.test is not None
    made = Made(product, data, predict(product, data.test), plan, teacher)
    return {name: float(value) for name, value in claim.measured(made).items()}


def _some(data: Data, limit: int | None) -> Data:
    """The data, with only so much of test and validation as a prefix is measured on."""
    if limit is None:
        return data
    cut = {
        split: source.rows(torch.arange(min(PREFIX_SAMPLES, len(source))), source.name)
        for split in ("validation", "test")
        if (source := getattr(data, split)) is not None
    }
    return replace(data, **cut)
