"""What our reproductions found: reads their results, strictly, and makes the scoreboard of all claims from them.

A result is `NAME.json` (format 1), written by `tutelage reproduce NAME`; `NAME.md` beside it says why we think that a claim failed. A
recipe without a result has not been measured yet, which is no error; a result that does not say what it must is one.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numerals
from docstrings import plain
from tutelage.errors import BadInput
from tutelage.recipes import listing, load

FORMAT = 1
FOLDER = Path(__file__).parent.parent / "src" / "tutelage" / "reproductions" / "results"
VERDICTS = ("reproduced", "not reproduced at this scale", "reversed", "too noisy to say")
KINDS = ("difference", "non-inferior", "level", "trend", "rank")
UNMEASURED = "not yet measured"


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % interval, whose ends are infinite where there is but one seed."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Prediction:
    """What was predicted, and what was found.

    Args:
        says: the prediction in words.
        metric: which number it speaks of.
        kind: what sort of prediction it is.
        per_seed: one number a seed, positive as predicted.
        found: their mean.
        rule: when it counts as reproduced, in words.
        verdict: what the rule says.
    """

    says: str
    metric: str
    kind: str
    per_seed: Sequence[float]
    found: Mean
    rule: str
    verdict: str

    @property
    def unit(self) -> numerals.Unit:
        """What its numbers are counted in."""
        return numerals.PLAIN if self.kind == "rank" else numerals.unit_of(self.metric)


@dataclass(frozen=True)
class Arm:
    """One way of training that was compared.

    Args:
        recipe: by which it trained.
        about: what it is, in words.
        updates: of each training.
        seconds: of each training.
        knob: what was tuned for it; None where nothing was.
        chosen: the values that were taken then.
        tries: how many were tried.
        means: by metric.
    """

    recipe: str
    about: str
    updates: int
    seconds: float
    knob: str | None
    chosen: Mapping[str, Any]
    tries: int
    means: Mapping[str, Mean]


@dataclass(frozen=True)
class Result:
    """One reproduction; names as in the file. `why` is what NAME.md says, empty where there is none."""

    name: str
    recipe: str
    claim: str
    bench: str
    date: str
    verdict: str
    seeds: Sequence[int]
    minutes: float
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    arms: Mapping[str, Arm]
    predictions: Sequence[Prediction]
    why: str


def read(folder: Path = FOLDER) -> dict[str, Result]:
    """All results in a folder, by name; none where there is no such folder.

    Raises:
        BadInput: a file is no result; names the file and what is wrong.
    """
    return {file.stem: result_in(file) for file in sorted(folder.glob("*.json"))}


def result_in(file: Path) -> Result:
    """One result.

    Raises:
        BadInput: the file is no result; names the file and what is wrong.
    """
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{file.name}: cannot be read as JSON: {error}") from None
    why = file.with_suffix(".md")
    said = Part(file.name, found)
    if said.give("format", int) != FORMAT:
        raise BadInput(f"{file.name}: format {found['format']}; expected {FORMAT}. Write it anew: tutelage reproduce {file.stem}")
    seeds = [Part(f"{file.name}: seeds", {"of": seed}).give("of", int) for seed in said.give("seeds", list)]
    said.must(said.give("name", str) == file.stem, "name", f"{file.stem!r}, as the file is called")
    said.must(bool(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", file.stem)), "name", "small letters and digits, with hyphens between")
    said.must(bool(seeds), "seeds", "at least one")
    arms = {name: _arm(each) for name, each in said.parts("arms", dict)}
    numbers = said.give("numbers", dict)
    said.must(set(numbers) == set(arms), "numbers", f"those of each arm ({', '.join(arms)})")
    for arm, each in said.parts("numbers", dict):
        for metric in each.found:
            each.must(len(each.numbers(metric)) == len(seeds), metric, f"one number for each of {len(seeds)} seeds")
        each.must(set(each.found) >= set(arms[arm].means), "means", "only metrics that have numbers")
    predictions = [_prediction(each, len(seeds)) for _, each in said.parts("predictions", list)]
    verdict = said.among("verdict", VERDICTS)
    said.must(verdict in [p.verdict for p in predictions], "verdict", "that of one of the predictions")
    machine = said.give("machine", dict)
    for key in ("processor", "cpus", "threads"):
        Part(f"{file.name}: machine", machine).give(key, (str, int))
    return Result(
        **{key: said.give(key, str) for key in ("name", "recipe", "claim", "bench", "date")},
        verdict=verdict,
        seeds=seeds,
        minutes=said.number("minutes"),
        machine=machine,
        versions=said.give("versions", dict),
        arms=arms,
        predictions=predictions,
        why=why.read_text().strip() if why.is_file() else "",
    )


def _arm(said: Part) -> Arm:
    tuned = said.found.get("tuned")
    means = {metric: _mean(each) for metric, each in said.parts("means", dict)}
    about = Part(f"{said.where}: tuned", tuned) if tuned is not None else None
    return Arm(
        said.give("recipe", str),
        said.give("about", str),
        said.give("updates", int),
        said.number("seconds"),
        about.give("knob", str) if about else None,
        about.give("chosen", dict) if about else {},
        len(about.give("tries", list)) if about else 0,
        means,
    )


def _prediction(said: Part, seeds: int) -> Prediction:
    per_seed = said.numbers("per_seed")
    said.must(len(per_seed) == seeds, "per_seed", f"one number for each of {seeds} seeds")
    kind, verdict = said.among("kind", KINDS), said.among("verdict", VERDICTS)
    return Prediction(said.give("says", str), said.give("metric", str), kind, per_seed, _mean(said), said.give("rule", str), verdict)


def _mean(said: Part) -> Mean:
    ends = [said.number(key) if said.found.get(key) is not None else end for key, end in (("low", -math.inf), ("high", math.inf))]
    found = Mean(said.number("mean"), *ends)
    said.must(math.isfinite(found.mean) and found.low <= found.mean <= found.high, "mean", "a number within its interval")
    return found


@dataclass(frozen=True)
class Part:
    """A mapping in a file, which says what it lacks.

    Args:
        where: how messages call it.
        found: what stands there.
    """

    where: str
    found: Any

    def give(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """A value of a kind."""
        self.must(isinstance(self.found, dict) and key in self.found, key, "it to be there")
        value = self.found[key]
        self.must(isinstance(value, kind) and not isinstance(value, bool), key, "a value of another kind")
        return value

    def number(self, key: str) -> float:
        """A number."""
        return float(self.give(key, (int, float)))

    def numbers(self, key: str) -> list[float]:
        """Finite numbers."""
        found = [Part(f"{self.where}: {key}", {"of": each}).number("of") for each in self.give(key, list)]
        self.must(all(map(math.isfinite, found)), key, "finite numbers")
        return found

    def among(self, key: str, words: Sequence[str]) -> str:
        """One of some words."""
        value: str = self.give(key, str)
        self.must(value in words, key, f"one of {', '.join(words)}")
        return value

    def parts(self, key: str, kind: type) -> list[tuple[str, Part]]:
        """What stands in a mapping or a list, each by its name or number; at least one."""
        found = self.give(key, kind)
        self.must(bool(found), key, "at least one")
        pairs: Iterable[tuple[Any, Any]] = found.items() if kind is dict else enumerate(found, 1)
        return [(name, Part(f"{self.where}: {key} {name}", each)) for name, each in pairs]

    def must(self, holds: bool, key: str, expected: str) -> None:
        """Refuse the file where it does not hold."""
        if not holds:
            raise BadInput(f"{self.where}: {key}: expected {expected}")


def of_recipe(results: Mapping[str, Result], name: str) -> list[Result]:
    """The results on a recipe's claims."""
    return [result for result in results.values() if result.recipe == name]


def unexplained(results: Mapping[str, Result]) -> list[str]:
    """The names of results that are not as predicted, and of which nobody says why."""
    return [result.name for result in results.values() if result.verdict != "reproduced" and not result.why]


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

    Raises:
        BadInput: a result on a recipe that is not there.
    """
    names = [each.name for each in listing()]
    for result in results.values():
        if result.recipe not in names:
            raise BadInput(f"{result.name}.json: recipe: {result.recipe!r} is not one of {', '.join(names)}")
    rows: list[tuple[str, Result | None]] = []
    for name in names:
        found = of_recipe(results, name)
        rows += [(name, result) for result in found]
        if not found and load(name).about.paper:  # type: ignore[attr-defined]
            rows.append((name, None))
    return rows


def table(results: Mapping[str, Result]) -> str:
    """The scoreboard: how many claims came out how, and each of them."""
    lines = [counts(results), "", "| method | verdict | claim | found | seeds | date |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(_row(name, result) for name, result in claims(results))]) + "\n"


def _row(name: str, result: Result | None) -> str:
    paper = load(name).about.paper  # type: ignore[attr-defined]
    source = f"<br>{plain(paper.authors)}, [{paper.year}]({paper.url})" if paper else ""
    method = f"[{name}](generated/gallery/{name}.md){source}"
    if result is None:
        return f"| {method} | {badge(UNMEASURED)} | *The paper:* {plain(paper.claim)} | | | |"
    found = "<br>".join(f"{plain(p.says)}: {numerals.difference(p.found, p.unit)}" for p in result.predictions)
    return f"| {method} | {badge(result.verdict)} | {plain(result.claim)} | {found} | {len(result.seeds)} | {plain(result.date)} |"
