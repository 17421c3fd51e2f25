"""The gallery: a page and a card for each recipe, from its signature, docstring and `about`. `measured` says what we found."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from docstrings import default_of, described, escaped
from tutelage.recipes import knobs, listing, load, roles
from tutelage.training import Fit


def pages() -> dict[str, str]:
    """The text of each recipe's page, by the recipe's name."""
    return {each.name: page(each.name, load(each.name)) for each in listing()}


def measured(name: str) -> str:
    """What our own runs of a recipe gave against the paper's claim."""
    return "Not yet measured: this method's tests hold, but nobody has yet compared its results with the paper's."


def card(name: str, function: Callable[..., Any]) -> str:
    """One recipe on the index."""
    about = described(function)
    labels = "needs labels" if function.about.needs_labels else "can do without labels"  # type: ignore[attr-defined]
    footer = f"matches {function.about.matches} · {teachers(function)} · {labels}"  # type: ignore[attr-defined]
    link = f":link: /generated/gallery/{name}\n:link-type: doc"
    return f"::::{{grid-item-card}} {name}\n{link}\n\n{escaped(about.summary)}\n\n:::{{card-footer}}\n{footer}\n:::\n::::"


def cards() -> str:
    """The index of all recipes."""
    grid = "\n\n".join(card(each.name, load(each.name)) for each in listing())
    return f":::::{{grid}} 1 2 2 2\n:gutter: 3\n\n{grid}\n:::::\n"


def teachers(function: Callable[..., Any]) -> str:
    """Whom a recipe asks besides the student."""
    named = [role for role in roles(function) if role not in ("student", "data")]
    return "with a " + " and a ".join(named) if named else "no teacher"


def page(name: str, function: Callable[..., Any]) -> str:
    """Everything that the code knows of one recipe."""
    known, about = function.about, described(function)  # type: ignore[attr-defined]
    parts = [f"# {name}", escaped(about.summary)]
    if known.paper:
        paper = known.paper
        parts.append(f"*{escaped(paper.authors)}*, [{escaped(paper.title)}]({paper.url}), {paper.year}.")
    parts.append(escaped(about.text))
    facts = {"Matches": known.matches, "Asks": teachers(function).removeprefix("with "), "Alias": known.alias and f"`{known.alias}`"}
    facts |= {title: about.sections.get(title) for title in ("Data", "Cost")}
    parts.append("\n".join(f":{title}: {_begun(escaped(text))}" for title, text in facts.items() if text))
    parts += ["## Use it", f"```console\n$ {command(name, function)}\n```", "## Knobs"]
    parts += [_knob(key, parameter, about.arguments.get(key, "")) for key, parameter in knobs(function).items()]
    if "Default" in about.sections:
        parts.append(f"*Where the defaults come from:* {escaped(about.sections['Default'])}")
    if "Relations" in about.sections:
        parts += ["## Relations", _begun(escaped(about.sections["Relations"]))]
    parts.append("## Results")
    if known.paper:
        parts.append(f"**The paper's claim**\n: {escaped(known.paper.claim)}")
    parts.append(f"**Ours**\n: {measured(name)}" if known.paper else measured_alone())
    where = f"tutelage.recipes.{function.__name__}"
    parts += ["## The code", f"```{{literalinclude}} ../../../src/{where.replace('.', '/')}.py\n:language: python\n```"]
    return "\n\n".join(parts) + "\n"


def measured_alone() -> str:
    """Training without a teacher claims nothing; every job measures it."""
    return "There is no claim to compare with: this is the student alone, which every job trains and shows beside the student taught."


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
