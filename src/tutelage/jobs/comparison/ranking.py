"""Ranking: what the trials of a comparison say together. Numbers in, the answer out; nothing is trained or read here.

Ranked by the mean on the split that may be chosen on; the answer is about the other split. The winner was chosen among all, so a difference
between it and another counts as one of all pairs: with fewer in mind, the best of many equal recipes would too often look better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from tutelage.evaluation.comparison import holm
from tutelage.evaluation.intervals import LEVEL
from tutelage.evaluation.seeds import Interval, interval, paired_interval

REFERENCE = "hinton-kd"
"""What other recipes' costs are given over."""

COUNTED = ("accuracy", "agreement")
"""Metrics that are shares of samples."""
SHARES = ("accuracy", "macro_f1", "ece", "agreement", "likelihood")
"""Numbers that are at most 1."""

Seeds = Mapping[str, Mapping[str, Any]]
"""Of one recipe, by seed: `validation` and `test`, each metric's number, and `seconds`."""


def ranked(results: Mapping[str, Seeds], metric: str) -> list[str]:
    """The recipes, best mean on validation first; equal ones by nats, then by name. One without a finished seed comes last.

    Args:
        results: seeds of each recipe.
        metric: of which more is better.
    """

    def key(name: str) -> tuple[float, float, str]:
        rows = [row["validation"] for row in results[name].values()]
        if not rows:
            return math.inf, math.inf, name
        nats = [row["nll"] for row in rows if math.isfinite(row.get("nll", math.inf))]
        return -_mean([row[metric] for row in rows]), _mean(nats) if nats else math.inf, name

    return sorted(results, key=key)


def winner(results: Mapping[str, Seeds], metric: str) -> dict[str, Any] | None:
    """The best recipe, and its seed that is best on validation; None where nothing is finished."""
    first = next(iter(ranked(results, metric)), None)
    if first is None or not results[first]:
        return None
    seeds = results[first]
    seed = min(seeds, key=lambda s: (-seeds[s]["validation"][metric], seeds[s]["validation"].get("nll", math.inf), int(s)))
    return {"recipe": first, "seed": int(seed), "folder": seeds[seed]["folder"]}


def differences(results: Mapping[str, Seeds], metric: str, samples: int) -> list[dict[str, Any]]:
    """The winner against each other recipe on the last split, over the seeds that they share.

    Args:
        results: seeds of each recipe.
        metric: of which more is better, at most 1.
        samples: of the split: one over it is the smallest step of a share of samples.

    Returns:
        `first`, `second`, `metric`, `mean` (first less second), `low` and `high` (None for one seed), `p`, `p_holm` raised for all pairs
        of recipes, and `better`: "first", "second", or None where no difference is seen.
    """
    order = [name for name in ranked(results, metric) if results[name]]
    found = {pair: gap for pair in combinations(order, 2) if (gap := _gap(results, pair, metric, samples)) is not None}
    tested = [pair for pair, gap in found.items() if gap.seeds > 1]
    raised = dict(zip(tested, holm([found[pair].chance for pair in tested]), strict=True))
    rows = []
    for pair, gap in found.items():
        if pair[0] != order[0]:
            continue
        holmed = raised.get(pair, 1.0)
        seen = holmed < 1 - LEVEL
        rows.append(
            {
                "first": pair[0],
                "second": pair[1],
                "metric": metric,
                **ends(gap),
                "p": gap.chance,
                "p_holm": holmed,
                "better": None if not seen else "first" if gap.mean > 0 else "second",
            }
        )
    return rows


def _gap(results: Mapping[str, Seeds], pair: tuple[str, str], metric: str, samples: int) -> Interval | None:
    shared = [seed for seed in results[pair[0]] if seed in results[pair[1]]]
    if not shared:
        return None
    one, other = ([results[name][seed]["test"][metric] for seed in shared] for name in pair)
    return paired_interval(one, other, step=1 / samples if metric in COUNTED else 0.0)


def summary(seeds: Seeds, metric: str, samples: int, chosen_on: int) -> dict[str, Any]:
    """Means over a recipe's seeds, with Student's intervals.

    Args:
        seeds: of one recipe.
        metric: of the validation split.
        samples: of the last split.
        chosen_on: samples of the split that is chosen on.

    Returns:
        `validation` of the metric, `test` of each metric that is finite in all seeds, and `seconds`; None where no seed has it.
    """
    rows = list(seeds.values())
    if not rows:
        return {"validation": None, "test": {}, "seconds": None}
    shown = [key for key in rows[0]["test"] if all(math.isfinite(row["test"].get(key, math.nan)) for row in rows)]
    test = {}
    for key in shown:
        found = interval([row["test"][key] for row in rows], step=1 / samples if key in COUNTED else 0.0)
        test[key] = ends(found, 0.0, 1.0 if key in SHARES else math.inf)
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    chosen_by = interval([row["validation"][metric] for row in rows], step=1 / chosen_on if metric in COUNTED else 0.0)
    return {
        "validation": ends(chosen_by, 0.0, 1.0),
        "test": test,
        "seconds": ends(interval(seconds), 0.0) if seconds else None,
    }


def cost(results: Mapping[str, Seeds], name: str) -> float | None:
    """A recipe's mean seconds over those of `hinton-kd`, on the seeds of which both are known."""
    reference = results.get(REFERENCE, {})
    shared = [s for s, row in results[name].items() if row["seconds"] and reference.get(s, {}).get("seconds")]
    if not shared:
        return None
    return sum(results[name][s]["seconds"] for s in shared) / sum(reference[s]["seconds"] for s in shared)


def said(results: Mapping[str, Seeds], metric: str, gaps: Sequence[Mapping[str, Any]], chosen_on: str, split: str) -> str:
    """The answer in a few sentences.

    Args:
        results: seeds of each recipe.
        metric: of which more is better.
        gaps: what `differences` gives.
        chosen_on: the split that was ranked by.
        split: the last split.
    """
    best = winner(results, metric)
    if best is None:
        return "No training was finished, so there is nothing to compare."
    name = best["recipe"]
    caution = ""
    if chosen_on == split:
        caution = f" There is no split to choose on, so {split} was chosen on, too: it flatters the winner."
    if not gaps:
        return f"{name} is the only one of which there are numbers; there is nothing to compare it with.{caution}"
    if all(gap["low"] is None for gap in gaps):
        return (
            f"{name} is best on {chosen_on}, in one seed: how much other seeds would change is not known, "
            f"so no difference can be told from chance. Give --seeds 3 or more.{caution}"
        )
    ahead = [f"{gap['second']} ({_points(gap)})" for gap in gaps if gap["better"] == "first"]
    behind = [f"{gap['second']} ({_points(gap)})" for gap in gaps if gap["better"] == "second"]
    level = [gap["second"] for gap in gaps if gap["better"] is None]
    if not ahead and not behind:
        return f"{name} is best on {chosen_on}, but on {split} no difference is seen between it and {_listed(level)}.{caution}"
    parts = [f"on {split} it is ahead of {_listed(ahead)}"] if ahead else []
    parts += [f"on {split} {_listed(behind)} {'is' if len(behind) == 1 else 'are'} ahead of it"] if behind else []
    parts += [f"no difference is seen between it and {_listed(level)}"] if level else []
    return f"{name} is best on {chosen_on}; {'; '.join(parts)}.{caution}"


def ends(found: Interval, least: float = -math.inf, most: float = math.inf) -> dict[str, float | None]:
    """An interval as plain values, as far as its numbers can lie at all; None for what a single seed does not say."""
    told = math.isfinite(found.low)
    return {"mean": found.mean, "low": max(least, found.low) if told else None, "high": min(most, found.high) if told else None}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _points(gap: Mapping[str, Any]) -> str:
    return f"{gap['mean'] * 100:+.2f} points"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
