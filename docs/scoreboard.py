"""What our reproductions found: reads their results, strictly, for all pages and tests that speak of them.

A result is `NAME.json` (format 1), written by `tutelage reproduce NAME`; `NAME.md` beside it says why we think that a claim failed. A
recipe without a result has not been measured yet, which is no error; a result that does not say what it must is one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numerals
from tutelage.errors import BadInput
from tutelage.reproductions import RESULTS
from tutelage.reproductions.harness.results import FORMAT
from tutelage.reproductions.harness.verdicts import VERDICTS, together

KINDS = ("difference", "non-inferior", "level", "trend", "rank")


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
        recipe: by which it trained; None where a model was measured as it is.
        about: what it is, in words.
        updates: of what it made.
        seconds: of a training; None where it was not timed.
        unequal: why it has another number of updates than the others; empty where it has not.
        tries: how many settings were compared for it on validation; 0 where it was not tuned.
        chosen: the settings that were taken then.
        means: by metric.
    """

    recipe: str | None
    about: str
    updates: int
    seconds: float | None
    unequal: str
    tries: int
    chosen: Mapping[str, Any]
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
    reported: Sequence[str]
    why: str

    @property
    def metrics(self) -> list[str]:
        """What the table of arms shows: what is reported, and what predictions speak of."""
        asked = dict.fromkeys([*self.reported, *(prediction.metric for prediction in self.predictions)])
        return [metric for metric in asked if any(metric in arm.means for arm in self.arms.values())]


def read(folder: Path = RESULTS) -> dict[str, Result]:
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
    said.must(verdict == together([p.verdict for p in predictions]), "verdict", "the worst of its predictions' verdicts")  # type: ignore[misc]
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
        reported=[Part(f"{file.name}: reported", {"of": metric}).give("of", str) for metric in said.give("reported", list)],
        why=why.read_text().strip() if why.is_file() else "",
    )


def _arm(said: Part) -> Arm:
    means = {metric: _mean(each) for metric, each in said.parts("means", dict)}
    recipe = said.give("recipe", (str, type(None)))
    seconds = said.number("seconds") if said.give("seconds", (int, float, type(None))) is not None else None
    tries, chosen = _tuned(said)
    return Arm(recipe, said.give("about", str), said.give("updates", int), seconds, said.give("unequal", str), tries, chosen, means)


def _tuned(said: Part) -> tuple[int, Mapping[str, Any]]:
    """How many settings were tried, and which were chosen."""
    if said.give("tuned", (dict, type(None))) is None:
        return 0, {}
    tuned = Part(f"{said.where}: tuned", said.found["tuned"])
    tries, chosen = tuned.give("tries", list), tuned.give("chosen", int)
    tuned.must(0 <= chosen < len(tries) and isinstance(tries[chosen], dict), "chosen", "the place of one of the tries")
    return len(tries), tries[chosen]


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
