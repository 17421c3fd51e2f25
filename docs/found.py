"""The part of a recipe's page that says what our reproductions of its claim gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dots
from claims import UNMEASURED, badge
from docstrings import plain
from numerals import POINTS, difference, name_of, unit_of, value
from scoreboard import Arm, Result, of_recipe
from tutelage.reproductions import listing

NOT_YET = "Not yet measured: this method's tests hold, but nobody has yet compared its results with the paper's."
ALONE = "There is no claim to compare with: this is the student alone, which every job trains and shows beside the student taught."

READ = "What was found is positive where it is as predicted. Each dot is a seed, the diamond their mean with its 95 % interval."


def section(name: str, claims: bool, results: Mapping[str, Result]) -> str:
    """All that was found on a recipe.

    Args:
        name: of the recipe.
        claims: whether it comes from a paper that claims something.
        results: by name.
    """
    found = of_recipe(results, name)
    if not found:
        how = f" `tutelage reproduce {name}` does so." if name in listing() else ""
        return f"**Ours**\n: {NOT_YET + how if claims else ALONE}"
    return "\n\n".join(told(result, len(found) > 1) for result in found)


def verdict(name: str, claims: bool, results: Mapping[str, Result]) -> str:
    """What came of a recipe's claims, in a line at the head of its page; empty where it claims nothing."""
    said = [badge(result.verdict) for result in of_recipe(results, name)] or [badge(UNMEASURED)] * claims
    return f"{' '.join(said)} ([results](#results))" if said else ""


def pages(results: Mapping[str, Result]) -> dict[str, str]:
    """A page for each claim that is a command's, not a recipe's, by its name."""
    head = "---\norphan: true\n---\n\n"
    return {result.name: f"{head}# {plain(result.name)}\n\n{told(result)}\n" for result in of_recipe(results, "")}


def told(result: Result, several: bool = False) -> str:
    """One result in whole.

    Args:
        result: what is told.
        several: whether its name has to set it apart from others.
    """
    title = f"### Ours: {plain(result.name)}" if several else "### Ours" if result.recipe else "## What was found"
    parts = [title, f"{badge(result.verdict)} {plain(result.claim)}"]
    parts.append("\n".join(f":{title}: {text}" for title, text in facts(result).items()))
    head = ["| predicted | found: mean over seeds, 95 % interval | verdict |", "|---|---|---|"]
    lines = [f"| {plain(p.says)}<br>*{plain(p.rule)}* | {difference(p.found, p.unit)} | {badge(p.verdict)} |" for p in result.predictions]
    parts.append("\n".join([*head, *lines]))
    points = " Rules speak of shares: 0.01 is one point." if POINTS in [p.unit for p in result.predictions] else ""
    parts.append(f"{READ}{points}")
    for number, prediction in enumerate(result.predictions, 1):
        parts += [f"**{plain(prediction.says)}**", f"```{{raw}} html\n:file: ../dots/{result.name}-{number}.svg\n```"]
    if result.why:
        parts += ["**Why, as we think**", result.why]
    metrics = result.metrics
    head = ["| arm | " + " | ".join(map(_head, metrics)) + " | updates | seconds |", "|---" * (len(metrics) + 3) + "|"]
    parts += ["**The arms**, each with its mean over seeds and the 95 % interval of that:"]
    parts.append("\n".join([*head, *(_arm(name, arm, metrics) for name, arm in result.arms.items())]))
    parts += ["Measure it again:", f"```console\n$ tutelage reproduce {result.name}\n```"]
    return "\n\n".join(parts)


def facts(result: Result) -> dict[str, str]:
    """Where and how it was measured."""
    machine = result.machine
    on = f"{machine['processor']}, {machine['cpus']} processors, {machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"
    with_ = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    seeds = ", ".join(map(str, result.seeds))
    return {
        "Bench": plain(result.bench),
        "Seeds": plain(f"{len(result.seeds)} ({seeds}), the same for all arms"),
        "Measured": plain(f"on {result.date}, in {result.minutes:.3g} minutes, on {on}, with {with_}"),
    }


def _head(metric: str) -> str:
    return plain(name_of(metric))


def _arm(name: str, arm: Arm, metrics: list[str]) -> str:
    told = [arm.about, f"updates differ: {arm.unequal}" if arm.unequal else ""]
    if arm.tries:
        told.append(f"{', '.join(_settings(arm.chosen))} chosen of {arm.tries} on validation")
    cells = [value(arm.means[metric], unit_of(metric)) if metric in arm.means else "" for metric in metrics]
    cells += [f"{arm.updates:,}", "" if arm.seconds is None else f"{arm.seconds:.3g}"]
    return f"| **{plain(name)}**<br>{plain('; '.join(filter(None, told)))} | " + " | ".join(cells) + " |"


def _settings(knobs: Mapping[str, Any], before: str = "") -> list[str]:
    """Knobs as one types them: those within another with a dot."""
    pairs = [(f"{before}{key}", given) for key, given in knobs.items()]
    return [said for key, given in pairs for said in (_settings(given, f"{key}.") if isinstance(given, dict) else [f"{key}={given}"])]


def drawings(results: Mapping[str, Result]) -> dict[str, str]:
    """The dot plots of all results, by file."""
    return {
        f"dots/{result.name}-{number}.svg": dots.plot(prediction, list(result.seeds), f"{result.name}-{number}")
        for result in results.values()
        for number, prediction in enumerate(result.predictions, 1)
    }
