"""The gallery: a page for each recipe, from its signature, docstring and `about`, from what was measured of its cost, and from results."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import costs
import found
from docstrings import default_of, described, escaped
from scoreboard import Result
from tutelage.data import BUILT_IN, LOCATED
from tutelage.recipes import knobs, listing, load, roles
from tutelage.training import Fit


def pages(results: Mapping[str, Result]) -> dict[str, str]:
    """The text of each recipe's page, by the recipe's name."""
    return {each.name: page(each.name, load(each.name), results) for each in listing()}


def teachers(function: Callable[..., Any]) -> str:
    """Whom a recipe asks besides the student."""
    named = [role for role in roles(function) if role not in ("student", "data")]
    return "with a " + " and a ".join(named) if named else "no teacher"


def labels(function: Callable[..., Any]) -> str:
    """Whether a recipe needs labels."""
    return "needs labels" if function.about.needs_labels else "can do without labels"  # type: ignore[attr-defined]


def data(function: Callable[..., Any]) -> str:
    """What data a recipe takes: all that we have are of samples that fall into classes."""
    if "data" not in roles(function):
        return "none"
    kinds = ", ".join(f"`{kind}`" for kind in (*BUILT_IN, *(f"{kind}:" for kind in LOCATED)))
    return f"any whose samples fall into classes, of whatever [kind](../data.md): {kinds}, or a data set of your own"


def page(name: str, function: Callable[..., Any], results: Mapping[str, Result]) -> str:
    """Everything that the code and the results know of one recipe."""
    known, about = function.about, described(function)  # type: ignore[attr-defined]
    parts = [f"# {name}", escaped(about.summary)]
    if known.paper:
        paper = known.paper
        parts.append(f"*{escaped(paper.authors)}*, [{escaped(paper.title)}]({paper.url}), {paper.year}.")
    parts.append(escaped(about.text))
    facts = {"Matches": known.matches, "Asks": teachers(function).removeprefix("with "), "Alias": known.alias and f"`{known.alias}`"}
    said = {title: _begun(escaped(about.sections.get(title, ""))) for title in ("Data", "Cost")}
    facts |= {"Labels": "needed" if known.needs_labels else "not always needed", "Data": f"{data(function)}. {said['Data']}".strip()}
    facts |= {
        "Cost": said["Cost"],
        "Measured": costs.sentence(name),
        "Our verdict": found.verdict(name, known.paper is not None, results),
    }
    parts.append("\n".join(f":{title}: {text if title == 'Alias' else _begun(text)}" for title, text in facts.items() if text))
    parts += ["## Use it", f"```console\n$ {command(name, function)}\n```", "## Knobs"]
    parts += [_knob(key, parameter, about.arguments.get(key, "")) for key, parameter in knobs(function).items()]
    if "Default" in about.sections:
        parts.append(f"*Where the defaults come from:* {escaped(about.sections['Default'])}")
    if "Relations" in about.sections:
        parts += ["## Relations", _begun(escaped(about.sections["Relations"]))]
    parts.append("## Results")
    if known.paper:
        parts.append(f"**The paper's claim**\n: {escaped(known.paper.claim)}")
    parts.append(found.section(name, known.paper is not None, results))
    where = f"tutelage.recipes.{function.__name__}"
    parts += ["## The code", f"```{{literalinclude}} ../../../src/{where.replace('.', '/')}.py\n:language: python\n```"]
    return "\n\n".join(parts) + "\n"


def command(name: str, function: Callable[..., Any]) -> str:
    """A command that runs the recipe on the digits."""
    asked = {"teacher": "--teacher cnn:width=32 --train-teacher ", "student": "--student cnn:width=8 "}
    words = "".join(asked.get(role, "") for role in roles(function))
    return f"tutelage distill --recipe {name} \\\n    {words}--data digits"


def _knob(name: str, parameter: inspect.Parameter, said: str) -> str:
    text = escaped(said).rstrip(".") + "."
    if isinstance(parameter.default, Fit):
        fit = parameter.default
        duration = f"{fit.epochs:g} epochs" if fit.epochs is not None else f"{fit.steps} steps"
        return f"`--{name.replace('_', '-')}.KNOB`\n: {text} Default: {duration}; all of its knobs: {{py:class}}`tutelage.training.Fit`."
    default = default_of(parameter)
    choices = re.fullmatch(r"Literal\[(.*)\]", str(parameter.annotation))
    if choices:
        text += " One of " + ", ".join(f"`{choice}`" for choice in re.findall(r"['\"]([^'\"]+)['\"]", choices.group(1))) + "."
    return f"`--{name.replace('_', '-')}`\n: {text}" + (f" Default: `{default}`." if default else "")


def _begun(text: str) -> str:
    """A sentence with its capital; names of code stay as they are."""
    return text[:1].upper() + text[1:]
