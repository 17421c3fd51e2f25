"""Contenders: which recipes can take part in a comparison on a pair of models and data, and why the others cannot."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.data import Data
from tutelage.errors import BadInput, Interrupted, TutelageError, in_short
from tutelage.evaluation.language import is_language
from tutelage.jobs import specs
from tutelage.jobs.cached import Handle, views_of
from tutelage.jobs.estimate import check_weights
from tutelage.jobs.roles import filled, handles_of, models_in
from tutelage.jobs.settings import chosen_knobs, plain
from tutelage.jobs.taps import check_classes
from tutelage.recipes import knobs as knobs_of
from tutelage.recipes import listing, load
from tutelage.recipes import roles as roles_of
from tutelage.training import Plan, Run, RunOptions, rehearse

BASELINE = "alone"


@dataclass(frozen=True)
class Contender:
    """A recipe that takes part.

    Args:
        name: how results call it: as it was given, knobs and all.
        recipe: name, or file.py:function.
        function: the recipe.
        knobs: with what was given for them; durations are set by the budget.
        handles: the models, and caches, by role, as they are rehearsed with.
        data: what is studied.
        fixed: knobs that were given, which tuning leaves alone.
    """

    name: str
    recipe: str
    function: Callable[..., Plan]
    knobs: Mapping[str, Any]
    handles: Mapping[str, Handle]
    data: Data
    fixed: frozenset[str] = frozenset()

    def plan(self, knobs: Mapping[str, Any] | None = None) -> Plan:
        """The plan with other knobs."""
        return self.function(**filled(self.function, self.handles, self.data), **{**self.knobs, **(knobs or {})})

    @property
    def slug(self) -> str:
        """The name as it can stand in a file's name."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.name.replace(".py:", "-")).strip("-.")[:80] or "recipe"

    def plain(self, knobs: Mapping[str, Any]) -> dict[str, Any]:
        """Knobs as plain values."""
        return {name: plain(value) for name, value in knobs.items()}


def contenders(
    recipes: Sequence[str] | None, given: Mapping[str, Any], data: Data, seed: int, trust_code: bool
) -> tuple[list[Contender], list[dict[str, str]]]:
    """The recipes that can be built on these models and data. Builds no model.

    Args:
        recipes: names, file.py:function, each with `:knob=value,knob=value` where wanted; None for all that are listed.
        given: by role, what `models.model_from` takes.
        data: what is studied.
        seed: of the first training.
        trust_code: let a run folder name a .py file whose code then runs.

    Returns:
        Who takes part, `alone` among them where there are labels; and `recipe` and `reason` of each that does not.

    Raises:
        BadInput: a recipe that was named does not apply or is named twice, or none applies.
    """
    names = [each.name for each in listing()] if recipes is None else _named(recipes)
    if recipes is not None and data.train.labelled and BASELINE not in names:
        names.append(BASELINE)
    found: list[Contender] = []
    left_out: list[dict[str, str]] = []
    others = recipes is None and not is_language(data.train)
    for name in names:
        if others and load(name).about.language:  # type: ignore[attr-defined]
            left_out.append({"recipe": name, "reason": "it is meant for language models; name it to compare it on these data"})
            continue
        if recipes is None and load(name).about.robust:  # type: ignore[attr-defined]
            left_out.append({"recipe": name, "reason": "it is meant for accuracy under attack; name it to compare it"})
            continue
        if recipes is None and load(name).about.general:  # type: ignore[attr-defined]
            left_out.append({"recipe": name, "reason": "it is for no task and trains no head; name it to compare it"})
            continue
        try:
            found.append(_contender(name, given, data, seed, trust_code))
        except Exception as error:
            left_out.append(refused(name, error, recipes is not None))
    slugs = [each.slug for each in found]
    for number, each in enumerate(found):
        same = next((e for e in found[:number] if (e.function, e.knobs) == (each.function, each.knobs)), None)
        if same is not None:
            raise BadInput(f"recipes {same.name} and {each.name} are the same; leave one of them out")
    for each in found:
        if slugs.count(each.slug) > 1:
            raise BadInput(f"recipes {', '.join(e.name for e in found if e.slug == each.slug)} would share a folder; name them otherwise")
    return some_of(found, left_out), left_out


def rehearsed(found: Sequence[Contender], named: bool) -> tuple[list[Contender], list[dict[str, str]]]:
    """Those that can also be trained: two samples go through each stage of each plan.

    Args:
        found: what `contenders` gives.
        named: whether the user named them, so that none may be left out.

    Raises:
        BadInput: one that was named cannot, or none can.
    """
    left_out: list[dict[str, str]] = []
    fit: list[Contender] = []
    for each in found:
        try:
            check_classes(each.handles, each.data)
            rehearse(Run(None, options=RunOptions(quiet=True), views=views_of(each.handles, None, 0)), each.plan())
            fit.append(each)
        except Exception as error:
            left_out.append(refused(each.name, error, named))
    return some_of(fit, left_out), left_out


def refused(name: str, error: Exception, named: bool) -> dict[str, str]:
    """Note that a recipe is left out, and why.

    Raises:
        BadInput: it was named, so it cannot be left out.
    """
    if isinstance(error, Interrupted):
        raise error
    reason = str(error) if isinstance(error, TutelageError) else f"{type(error).__name__}: {in_short(error)}"
    if named:
        raise error if isinstance(error, TutelageError) else BadInput(f"recipe {name} cannot be used: {reason}") from error
    return {"recipe": name, "reason": reason}


def some_of(found: list[Contender], left_out: Sequence[Mapping[str, str]]) -> list[Contender]:
    """The contenders.

    Raises:
        BadInput: there are none; says why.
    """
    if not found:
        reasons = "; ".join(f"{each['recipe']}: {each['reason']}" for each in left_out)
        raise BadInput(f"no recipe applies to these models and data ({reasons})")
    return found


def _named(recipes: Sequence[str]) -> list[str]:
    if isinstance(recipes, str) or not all(isinstance(name, str) for name in recipes):
        raise BadInput("recipes are given as a list of names or file.py:function, since they are carried out in other processes")
    names = [part.strip() for name in recipes for part in (name.split(",") if ":" not in name else [name])]
    for name in names:
        if not name:
            raise BadInput("a recipe's name is empty; list all with: tutelage recipes")
        if names.count(name) > 1:
            raise BadInput(f"recipe {name!r} is named twice; expected each once, or with other knobs ({name}:knob=value)")
    return names


def _contender(name: str, given: Mapping[str, Any], data: Data, seed: int, trust_code: bool) -> Contender:
    recipe, text = specs.divided(name)
    function = load(recipe)
    if ".py:" not in recipe:  # an alias, or underscores
        recipe = function.__name__.replace("_", "-")
        name = recipe + name[len(specs.divided(name)[0]) :]
    if function.about.generates:  # type: ignore[attr-defined]
        raise BadInput(f"recipe {name} makes a model that draws images, which is not compared by its answers; its own report judges it")
    if function.about.condenses:  # type: ignore[attr-defined]
        raise BadInput(f"recipe {name} makes a data set, not a student; try it with: tutelage condense --recipe {name}")
    roles = roles_of(function)
    typed = specs.typed(specs.options_in(text, name), function, name)
    for key in typed:
        if key in roles:
            raise BadInput(f"{name}: {key} is a role, which all recipes share; give --{key}")
    if not set(knobs_of(function)) & set(typed) and text:
        raise BadInput(f"{name}: expected RECIPE:knob=value,knob=value")
    if function.about.needs_labels and not data.train.labelled:  # type: ignore[attr-defined]
        raise BadInput(f"recipe {name} needs labels, but {data.name} has none")
    knobs = chosen_knobs(function, name, typed)
    handles, studied = handles_of(function, name, {k: v for k, v in given.items() if k in roles}, data, seed, trust_code)
    check_weights(models_in(handles))
    contender = Contender(name, recipe, function, knobs, handles, studied, frozenset(typed))
    contender.plan()
    return contender
