"""Recipes: one file per published system, found by file name; `@recipe` adds what the paper is and what the method needs.

`recipes/hinton_kd.py` is `hinton-kd`; a user's own is `path/to/file.py:function`. Listing names imports none of them.
"""

from __future__ import annotations

import importlib
import inspect
import math
from ast import Call, Constant, FunctionDef, get_docstring, parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tutelage.errors import BadInput, nearest
from tutelage.training.plan import Plan
from tutelage.usercode import function_in

Range: TypeAlias = "tuple[float, float] | tuple[float, float, str]"
"""Between what a knob is tuned: (low, high), or (low, high, "log") where ratios count."""


@dataclass(frozen=True)
class Paper:
    """Where a method comes from.

    Args:
        title: of the paper.
        authors: first author and "et al.", or all.
        year: of publication.
        url: where it can be read.
        claim: its central claim in one sentence, with its numbers.
    """

    title: str
    authors: str
    year: int
    url: str
    claim: str


@dataclass(frozen=True)
class About:
    """What `@recipe` knows of a recipe."""

    paper: Paper | None
    matches: str
    needs_labels: bool
    alias: str | None
    tune: Mapping[str, Range] = field(default_factory=dict)
    language: bool = False
    teachers: Mapping[str, str] = field(default_factory=dict)
    robust: bool = False
    generates: bool = False
    general: bool = False
    condenses: bool = False


def recipe(
    *,
    paper: Paper | None = None,
    matches: str,
    needs_labels: bool = False,
    alias: str | None = None,
    tune: Mapping[str, Range] | None = None,
    language: bool = False,
    teachers: Mapping[str, str] | None = None,
    robust: bool = False,
    generates: bool = False,
    general: bool = False,
    condenses: bool = False,
) -> Callable[[Callable[..., Plan]], Callable[..., Plan]]:
    """Mark a function `(teacher, student, data, *, knobs) -> Plan` as a recipe; it stays an ordinary function.

    Args:
        paper: the source.
        matches: what is matched, in a word or two.
        needs_labels: whether the data must have labels.
        alias: a second name.
        tune: knobs that are numbers, and between what `tutelage compare --tune` looks for better values.
        language: whether it is meant for language models; `tutelage compare` then leaves it out on other data, unless it is named.
        teachers: by role, the recipe by which `--train-teacher` trains who has no weights; `alone` for all others. Knobs that both recipes
            have under one name, but for `fit`, are passed on.
        robust: whether it is meant for accuracy under its knob `attack`, which reports then show; `tutelage compare` leaves it out unless
            it is named.
        generates: whether what it makes draws images, rather than answering for given ones; its report is then about these, no student is
            trained alone beside it, and `tutelage compare` refuses it.
        general: whether it is for no task: it takes encoders without a head, and leaves heads as they are; `tutelage compare` leaves it
            out unless it is named.
        condenses: whether what it makes is a data set, which `tutelage condense` asks it for: its plan keeps a
            `training.condensed.Condensed` under the name "condensed", and its student merely studies that; `tutelage compare` refuses it.

    Raises:
        BadInput: a knob without a default, nothing before the `*`, or a range that is none or of no knob.
    """

    def mark(function: Callable[..., Plan]) -> Callable[..., Plan]:
        parameters = inspect.signature(function).parameters.values()
        knobs = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        bare = [p.name for p in knobs if p.default is p.empty]
        if bare:
            raise BadInput(f"recipe {function.__name__}: knob {bare[0]!r} needs a default that works")
        if len(knobs) == len(list(parameters)):
            raise BadInput(f"recipe {function.__name__} has no roles: put teacher, student, data before the *")
        for name, ends in (tune or {}).items():
            _check_range(function.__name__, name, ends, [p.name for p in knobs])
        given = (
            paper,
            matches,
            needs_labels,
            alias,
            dict(tune or {}),
            language,
            dict(teachers or {}),
            robust,
            generates,
            general,
            condenses,
        )
        function.about = About(*given)  # type: ignore[attr-defined]
        return function

    return mark


def _check_range(function: str, name: str, ends: Range, known: list[str]) -> None:
    if name not in known:
        raise BadInput(f"recipe {function}: tune names {name!r}, which is no knob{nearest(name, known)}")
    low, high, *how = ends
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or how not in ([], ["log"]) or (how and low <= 0):
        raise BadInput(f'recipe {function}: tune {name}={ends!r}; expected (low, high), or (low, high, "log") above 0')


@dataclass(frozen=True)
class Listed:
    """A recipe's name, alias and first sentence, read from its file without importing it."""

    name: str
    alias: str | None
    summary: str


def listing() -> list[Listed]:
    """All built-in recipes, by name; imports none."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem.startswith("_"):
            continue
        for node in parse(path.read_text()).body:
            if isinstance(node, FunctionDef) and node.name == path.stem:
                summary = (get_docstring(node) or "").split("\n", 1)[0]
                found.append(Listed(path.stem.replace("_", "-"), _alias(node), summary))
    return found


def _alias(node: FunctionDef) -> str | None:
    for decorator in node.decorator_list:
        for keyword in decorator.keywords if isinstance(decorator, Call) else []:
            if keyword.arg == "alias" and isinstance(keyword.value, Constant):
                return str(keyword.value.value)
    return None


def load(name: str) -> Callable[..., Plan]:
    """Import one recipe by name, alias, or `file.py:function`.

    Raises:
        BadInput: no such recipe; names the nearest. Or the function is not marked with `@recipe`.
        MissingFile: no such file.
    """
    if ".py:" in name:
        function = function_in(name)
    else:
        known = listing()
        wanted = name.replace("_", "-")
        match = next((k.name for k in known if wanted in (k.name, k.alias)), None)
        if match is None:
            names = [n for k in known for n in (k.name, k.alias) if n]
            raise BadInput(f"recipe {name!r} is not known{nearest(name, names)}. List all with: tutelage recipes")
        stem = match.replace("-", "_")
        function = getattr(importlib.import_module(f"tutelage.recipes.{stem}"), stem)
    if not isinstance(getattr(function, "about", None), About):
        raise BadInput(f"{name} is not a recipe: mark the function with @tutelage.recipe(matches=...)")
    return function


def roles(function: Callable[..., Plan]) -> dict[str, Any]:
    """The roles of a recipe, the parameters before `*`, with their annotations as written."""
    return {p.name: p.annotation for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY}


def knobs(function: Callable[..., Plan]) -> dict[str, inspect.Parameter]:
    """The knobs of a recipe, the parameters after `*`."""
    return {p.name: p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
