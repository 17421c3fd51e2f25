"""From what a user gives for a recipe's roles to what the recipe is called with: handles on models, and teachers that are frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.jobs import models
from tutelage.jobs.cached import Handle, cached_from, is_cache
from tutelage.jobs.tokenizers import check_tokens
from tutelage.randomness import derive
from tutelage.recipes import roles
from tutelage.signals import Model
from tutelage.teachers import Frozen
from tutelage.training import Plan


def handles_of(
    function: Callable[..., Plan], name: str, given: Mapping[str, Any], data: Data, seed: int, trust_code: bool
) -> tuple[dict[str, Handle], Data]:
    """The models, and caches of teachers, by role; and the data, which take their classes from the teacher where no labels count them.

    Args:
        function: the recipe.
        name: how messages call it.
        given: by role, what `models.model_from` takes, or a cache.
        data: what is studied.
        seed: of the run; each role's first weights have a seed of their own.
        trust_code: let a run folder name a .py file whose code then runs.

    Raises:
        BadInput: a role that the recipe does not take, one that it lacks, no model, or a cache in place of what is trained.
        Mismatch: a cache of other data.
    """
    wanted = roles(function)
    for role, value in given.items():
        if value is not None and role not in wanted:
            takes = ", ".join(r for r in wanted if r != "data")
            raise BadInput(f"recipe {name} takes no {role}; it takes {takes}")
    handles: dict[str, Handle] = {}
    for role, annotation in wanted.items():
        if role == "data":
            continue
        if given.get(role) is None:
            raise BadInput(f"recipe {name} needs a {role}: give --{role} MODEL_OR_RUN")
        if is_cache(given[role]):
            if not _frozen(annotation):
                raise BadInput(f"recipe {name} trains its {role}, which must be a model; a cache holds only what one showed")
            handles[role] = cached = cached_from(given[role], role, data)
            if data.class_count() is None and cached.classes:
                data = replace(data, classes=cached.classes)
            continue
        handle = models.model_from(given[role], role, data=data, seed=derive("weights", seed, role), trust_code=trust_code)
        if data.class_count() is None and handle.classes:
            data = replace(data, classes=handle.classes)
        handles[role] = handle = _with_head(handle, given[role], role, name, function, data, derive("weights", seed, role))
    check_tokens(handles, data)
    return handles, data


def _with_head(handle: Model, given: Any, role: str, name: str, function: Callable[..., Plan], data: Data, seed: int) -> Model:
    """An encoder as a classifier, where the recipe is for a task: one that a run made gets a head, drawn by the seed."""
    if not handle.encodes or function.about.general:  # type: ignore[attr-defined]
        return handle
    folder = Path(given) if isinstance(given, (str, Path)) else None
    place = None if folder is None else next((f for f in (folder / "model", folder) if (f / "config.json").is_file()), None)
    if place is None:
        raise BadInput(f"recipe {name} needs a {role} with a head, but {given} is an encoder; leave out encoder=true, which gives it one")
    length = getattr(handle.preprocessing, "max_length", None)
    options = "" if length is None else f":max_length={length}"
    return models.model_from(f"hf:{place}{options}", role, data=data, seed=seed)


def filled(function: Callable[..., Plan], handles: Mapping[str, Handle], data: Data) -> dict[str, Any]:
    """What a recipe is called with, by role: what it only asks is a frozen teacher, what it trains stays a model.

    Args:
        function: the recipe.
        handles: by role, as `handles_of` gives them.
        data: what is studied.
    """
    made: dict[str, Any] = {}
    for role, annotation in roles(function).items():
        if role == "data":
            made[role] = data
        else:
            handle = handles[role]
            made[role] = Frozen(handle) if isinstance(handle, Model) and _frozen(annotation) else handle
    return made


def _frozen(annotation: Any) -> bool:
    """Whether a role only answers."""
    return str(getattr(annotation, "__name__", annotation)).rpartition(".")[2] == "Teacher"


def models_in(handles: Mapping[str, Handle]) -> dict[str, Model]:
    """Those that are models."""
    return {role: handle for role, handle in handles.items() if isinstance(handle, Model)}
