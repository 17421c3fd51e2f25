"""The figures of a comparison: quality over time, differences from the winner, what tuning tried. Takes compare.json as a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation import seed_plots, wording
from tutelage.evaluation.contents import Picture, picture
from tutelage.evaluation.seed_plots import Spread

MOST_TUNED = 12
"""Recipes whose tuning is drawn; of more, the first are."""
UNITS = ((3 * 3600.0, 3600.0, "hours"), (3 * 60.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From how many seconds, how many seconds make one, and its name."""
QUALITY = {"accuracy": "accuracy", "agreement": "agreement with the teacher", "likelihood": "likelihood of a token (1 / perplexity)"}
"""What the metrics that recipes are ranked by are called."""


def known(found: Mapping[str, Any] | None) -> bool:
    """Whether a summary over seeds says anything."""
    return bool(found) and (found or {}).get("mean") is not None


def quality_of(compare: Mapping[str, Any]) -> str:
    """What the metric is called by which recipes are ranked."""
    return QUALITY.get(str(compare["metric"]), str(compare["metric"]))


def cost(compare: Mapping[str, Any]) -> Picture | None:
    """Quality over the time of one training; None where nothing was trained."""
    metric, first, spreads = compare["metric"], (compare.get("winner") or {}).get("recipe"), []
    shown = [name for name in compare["recipes"] if _both(compare["results"][name], metric)]
    if not shown:
        return None
    longest = max(compare["results"][name]["seconds"]["mean"] for name in shown)
    one, unit = next((one, unit) for least, one, unit in UNITS if longest >= least)
    for name in shown:
        result = compare["results"][name]
        test, seconds = result["test"][metric], result["seconds"]["mean"]
        runs = [(run["seconds"] / one, run["test"][metric] * 100) for run in (result.get("seeds") or {}).values() if _measured(run, metric)]
        ends = [None if test.get(end) is None else test[end] * 100 for end in ("low", "high")]
        spreads.append(Spread(_label(compare, name), test["mean"] * 100, ends[0], ends[1], seconds / one, runs, name == first))
    teacher = ((compare.get("teacher") or {}).get("test") or {}).get(metric)
    line = None if teacher is None or metric == "agreement" else ("teacher", teacher * 100)  # it always agrees with itself
    drawn = seed_plots.quality_over_time(spreads, f"{unit} for one training", f"{quality_of(compare)} on {compare['split']}, %", line)
    said = "; ".join(f"{each.name} {each.mean:.2f} % at {each.at:.3g} {unit}" for each in spreads)
    marks = ["large marks: means", "small dots: single seeds", "diamond: the winner"]
    marks += ["lines: 95 % intervals over seeds"] if any(each.low is not None for each in spreads) else []
    marks += ["dashed, or beyond the arrow: the teacher"] if line else []
    label = f"{quality_of(compare)} on {compare['split']} over {unit} for one training: {said}"
    caption = f"Up is better, left is cheaper; {'; '.join(marks)}. Time: wall clock, the teacher's passes included."
    return picture("cost", drawn, label, caption)


def differences(compare: Mapping[str, Any]) -> Picture | None:
    """How far each recipe is from the winner; None where there is nobody else."""
    pairs = against_winner(compare)
    if not pairs:
        return None
    spreads = []
    for name, pair in pairs.items():
        mean, low, high = turned(pair)
        spreads.append(Spread(_label(compare, name), mean, low, high, seeds=_gaps(compare, pair), seen=pair.get("better") is not None))
    first = next(iter(pairs.values()))["first"]
    label = f"points of {quality_of(compare)} above {first if len(first) <= 24 else 'the winner'}"
    said = "; ".join(f"{each.name} {each.mean:+.2f}{'' if each.seen else ', no difference seen'}" for each in spreads)
    return picture(
        "differences",
        seed_plots.forest(spreads, label),
        f"Difference from {first} on {compare['split']}, in points: {said}",
        f"Each recipe's {quality_of(compare)} on {compare['split']} less that of {first}, paired by seed; left of zero is worse. "
        "Lines: 95 % intervals, each for its comparison alone; small dots: single seeds. "
        "Filled squares: a difference was seen by Holm's method; hollow circles: none was.",
    )


def tuning(compare: Mapping[str, Any]) -> list[tuple[str, Picture]]:
    """What tuning tried, recipe by recipe."""
    found: list[tuple[str, Picture]] = []
    for number, name in enumerate(compare["recipes"]):
        about = compare["results"][name].get("tuning") or {}
        tried = about.get("tried") or []
        if not any(each.get("validation") is not None for each in tried) or len(found) == MOST_TUNED:
            continue
        values = [(None if each.get("validation") is None else each["validation"] * 100, bool(each.get("pruned"))) for each in tried]
        best = about.get("validation")
        said = f"{name}: {len(tried)} trials{'' if best is None else f', the best reached {wording.percent(best)}'}"
        drawn = seed_plots.tuned(values, _chosen(about, tried), f"{quality_of(compare)}, %")
        caption = f"{name}: each trial's result on validation; crosses: given up; line: best so far; diamond: chosen."
        found.append((name, picture(f"tuning-{number}", drawn, f"Trials of {said}", caption, "small")))
    return found


def against_winner(compare: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The difference of the winner from each other recipe, in the metric by which they are ranked, by the other's name."""
    pairs = [each for each in compare.get("differences") or () if each.get("metric", compare["metric"]) == compare["metric"]]
    return {each["second"]: each for each in pairs if each.get("mean") is not None}


def turned(pair: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
    """A difference of the winner from another as that of the other from the winner, in points: mean, low, high."""
    mean, low, high = (None if pair.get(end) is None else 0.0 - pair[end] * 100 for end in ("mean", "high", "low"))
    return mean or 0.0, low, high


def _label(compare: Mapping[str, Any], name: str, most: int = 20) -> str:
    """A recipe's place and name, of a long path the end: what tells it from others."""
    words = " ".join(name.split())
    if len(words) > most and "/" in words:
        words = f"…{words[1 - most :]}"
    return f"{compare['recipes'].index(name) + 1} {words}"


def _both(result: Mapping[str, Any], metric: str) -> bool:
    return known((result.get("test") or {}).get(metric)) and known(result.get("seconds"))


def _measured(run: Mapping[str, Any], metric: str) -> bool:
    return run.get("seconds") is not None and (run.get("test") or {}).get(metric) is not None


def _gaps(compare: Mapping[str, Any], pair: Mapping[str, Any]) -> list[float]:
    """The other less the winner in points, for each seed that both have."""
    metric = compare["metric"]
    first, second = ((compare["results"].get(pair[which]) or {}).get("seeds") or {} for which in ("first", "second"))
    numbers = [tuple((side[seed].get("test") or {}).get(metric) for side in (first, second)) for seed in first if seed in second]
    return [(theirs - ours) * 100 for ours, theirs in numbers if ours is not None and theirs is not None]


def _chosen(about: Mapping[str, Any], tried: Sequence[Mapping[str, Any]]) -> int | None:
    """The place of the trial whose knobs were taken, the best of them where several have the same."""
    same = [at for at, each in enumerate(tried) if each.get("knobs") == about.get("chosen") and each.get("validation") is not None]
    return max(same, key=lambda at: tried[at]["validation"], default=None)
