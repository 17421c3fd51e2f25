"""The scoreboard: every claim with what was found of it, reproduced or not, or that nobody has measured it yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numerals
from docstrings import plain
from scoreboard import VERDICTS, Result, of_recipe
from tutelage import reproductions
from tutelage.errors import BadInput
from tutelage.recipes import listing, load

UNMEASURED = "not yet measured"


def badge(verdict: str) -> str:
    """A verdict as a mark in a text."""
    return f"[{verdict}]{{.verdict .{verdict.replace(' ', '-')}}}"


def counts(results: Mapping[str, Result]) -> str:
    """How many claims came out how."""
    rows = [result.verdict if result else UNMEASURED for _, result in claims(results)]
    told = Counter(rows)
    parts = [f"{told[verdict]} {badge(verdict)}" for verdict in (*VERDICTS, UNMEASURED) if told[verdict]]
    return f"{len(rows)} claim{'s' if len(rows) != 1 else ''}: {', '.join(parts)}."


def claims(results: Mapping[str, Result]) -> list[tuple[str, Result | None]]:
    """Every claim: the recipe, and its result or None. A recipe with several results has several, one that claims nothing has none.

    Claims of commands, which are no recipe's, come last, by their own names.

    Raises:
        BadInput: a result on a recipe that is not there.
    """
    names = [each.name for each in listing()]
    for result in results.values():
        if result.recipe not in ("", *names):
            raise BadInput(f"{result.name}.json: recipe: {result.recipe!r} is not one of {', '.join(names)}")
    rows: list[tuple[str, Result | None]] = []
    for name in names:
        found = of_recipe(results, name)
        rows += [(name, result) for result in found]
        if not found and load(name).about.paper:  # type: ignore[attr-defined]
            rows.append((name, None))
    return rows + [(result.name, result) for result in of_recipe(results, "")]


def table(results: Mapping[str, Result]) -> str:
    """The scoreboard: how many claims came out how, and each of them."""
    lines = [counts(results), "", "| method | verdict | claim | found | seeds | date |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(_row(name, result) for name, result in claims(results))]) + "\n"


def _row(name: str, result: Result | None) -> str:
    command = result is not None and not result.recipe
    paper = reproductions.load(name).paper() if command else load(name).about.paper  # type: ignore[attr-defined]
    source = f"<br>{plain(paper.authors)}, [{paper.year}]({paper.url})" if paper else ""
    method = f"[{name}](generated/{'claims' if command else 'gallery'}/{name}.md){source}"
    if result is None:
        return f"| {method} | {badge(UNMEASURED)} | *The paper:* {plain(paper.claim)} | | | |"
    several = len(result.predictions) > 1
    parts = [(plain(p.says), numerals.difference(p.found, p.unit), f" {badge(p.verdict)}" if several else "") for p in result.predictions]
    found = "".join(f"[{says}: **{numbers}**{own}]{{.found}}" for says, numbers, own in parts)
    return f"| {method} | {badge(result.verdict)} | {plain(result.claim)} | {found} | {len(result.seeds)} | {plain(result.date)} |"
