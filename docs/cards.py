"""The gallery's index: a card for each recipe, and a filter by what one has. Without JavaScript the filter is hidden and all is shown."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import Any

import costs
import gallery
from claims import UNMEASURED, badge
from docstrings import described, escaped
from scoreboard import VERDICTS, Result, of_recipe
from tutelage.recipes import listing, load, roles

Choices = list[tuple[str, str]]
"""What can be chosen: the class that a card must then have (empty for any), and how it is called."""


def index(results: Mapping[str, Result]) -> str:
    """The filter and all cards."""
    grid = "\n\n".join(card(each.name, load(each.name), results) for each in listing())
    return f"{form(results)}\n\n:::::{{grid}} 1 2 2 2\n:gutter: 3\n\n{grid}\n:::::\n"


def card(name: str, function: Callable[..., Any], results: Mapping[str, Result]) -> str:
    """One recipe on the index."""
    about = described(function)
    footer = f"matches {kinds_said(function)} · {gallery.teachers(function)} · {gallery.labels(function)} · {costs.brief(name)}"
    link = f":link: /generated/gallery/{name}\n:link-type: doc\n:class-item: {' '.join(classes(name, function, results))}"
    told = " ".join(map(badge, verdicts(name, function, results)))
    body = f"{escaped(about.summary)}\n\n{told}".strip()
    return f"::::{{grid-item-card}} {name}\n{link}\n\n{body}\n\n:::{{card-footer}}\n{footer}\n:::\n::::"


def kinds_said(function: Callable[..., Any]) -> str:
    """What is matched, in the recipe's words."""
    return escaped(function.about.matches)  # type: ignore[attr-defined]


def kinds(function: Callable[..., Any]) -> list[str]:
    """What is matched, thing by thing: "features, then logits" are two."""
    return [kind for kind in re.split(r",? then |, | and ", function.about.matches) if kind]  # type: ignore[attr-defined]


def verdicts(name: str, function: Callable[..., Any], results: Mapping[str, Result]) -> list[str]:
    """What was found of a recipe's claims, each verdict once; nothing where it claims nothing."""
    found = {result.verdict for result in of_recipe(results, name)}
    if not found:
        return [UNMEASURED] if function.about.paper else []  # type: ignore[attr-defined]
    return [verdict for verdict in VERDICTS if verdict in found]


def classes(name: str, function: Callable[..., Any], results: Mapping[str, Result]) -> list[str]:
    """What the filter goes by, as classes of a card."""
    labels = "labels-needed" if function.about.needs_labels else "labels-optional"  # type: ignore[attr-defined]
    asks = any(role not in ("student", "data") for role in roles(function))
    own = [slug("matches", kind) for kind in kinds(function)] + [slug("verdict", v) for v in verdicts(name, function, results)]
    return ["method", labels, "teacher-needed" if asks else "teacher-none", *own]


def slug(group: str, word: str) -> str:
    """A class's name."""
    return f"{group}-{'-'.join(re.findall(r'[a-z0-9]+', word.lower()))}"


def groups(results: Mapping[str, Result]) -> dict[str, Choices]:
    """The questions of the filter; the first answer of each shows all."""
    functions = {each.name: load(each.name) for each in listing()}
    matched = dict.fromkeys(kind for function in functions.values() for kind in kinds(function))
    found = {verdict for name, function in functions.items() for verdict in verdicts(name, function, results)}
    return {
        "Labels": [("", "I have labels"), ("labels-optional", "I have none")],
        "A teacher": [("", "I have one"), ("teacher-none", "I have none")],
        "It matches": [("", "anything"), *((slug("matches", kind), kind) for kind in matched)],
        "Our verdict": [("", "any"), *((slug("verdict", verdict), verdict) for verdict in (*VERDICTS, UNMEASURED) if verdict in found)],
    }


def form(results: Mapping[str, Result]) -> str:
    """The filter in HTML, hidden until the script that it needs has started; a block of Markdown, so it has no empty line."""
    lines = ['<form class="filter" aria-label="Show the methods that fit" hidden>']
    for number, (question, choices) in enumerate(groups(results).items()):
        lines += ["<fieldset>", f"<legend>{html.escape(question)}</legend>"]
        for place, (name, text) in enumerate(choices):
            first = " checked" if place == 0 else ""
            box = f'<input type="radio" name="question-{number}" value="{html.escape(name)}"{first}>'
            lines.append(f"<label>{box}<span>{html.escape(text)}</span></label>")
        lines.append("</fieldset>")
    return "\n".join([*lines, '<p><output aria-live="polite"></output> <button type="reset">Show all</button></p>', "</form>"])
