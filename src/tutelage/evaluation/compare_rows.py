"""The tables of a comparison, cell by cell: the ranking, all single seeds, tuning, what failed. Takes compare.json as a mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tutelage.evaluation import wording
from tutelage.evaluation.compare_figures import against_winner, known, quality_of, turned
from tutelage.evaluation.template import cited, flat

Cell = tuple[str, ...]
"""What a cell says, and what stands below it in small letters, line by line."""
NOTHING: Cell = ("",)


def nats(value: float) -> str:
    """Nats a sample: 0.093."""
    return f"{value:.3f}"


def duration(seconds: float) -> str:
    """A time in words, in one piece: 0.42 s, 12.3 s, 4 min 5 s, 2 h 3 min."""
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 99.95:
        said = f"{seconds:.3g} s"
    elif minutes < 100:
        said = f"{minutes} min {rest} s"
    else:
        said = f"{round(seconds / 60) // 60} h {round(seconds / 60) % 60} min"
    return said.replace(" ", "\u00a0")


Measured = tuple[tuple[str, str, Callable[[float], str]], ...]
MEASURED: Measured = (
    ("accuracy", "Accuracy", wording.percent),
    ("macro_f1", "Macro F1", wording.percent),
    ("nll", "Nats a sample", nats),
    ("ece", "Calibration error", partial(wording.percent, digits=1)),
    ("agreement", "Agrees with the teacher", wording.percent),
)
"""What is measured of a trained student: its key, what it is called, and its form."""
OF_LANGUAGE: Measured = (
    ("likelihood", "Likelihood of a token", wording.percent),
    ("perplexity", "Perplexity", "{:.4g}".format),
    ("nll", "Nats a token", nats),
    ("forward_kl", "KL from the teacher", nats),
    ("accuracy", "Next token right", wording.percent),
    ("ece", "Calibration error", partial(wording.percent, digits=1)),
    ("agreement", "Agrees with the teacher", wording.percent),
)


def measured_of(compare: Mapping[str, Any]) -> Measured:
    """What is measured in a comparison."""
    return OF_LANGUAGE if compare["metric"] == "likelihood" else MEASURED


def ranking(compare: Mapping[str, Any]) -> tuple[list[Cell], list[dict[str, Any]]]:
    """The main table: its columns without the recipe's, and its rows.

    Returns:
        Columns; and for each recipe `name`, `place`, `paper`, `note`, `first` and `cells`, one a column. A column in which no recipe has
        anything is left out.
    """
    metric, quality = compare["metric"], quality_of(compare)
    chosen = (compare.get("chosen_on") or {}).get("split", "validation")
    pairs, first = against_winner(compare), (compare.get("winner") or {}).get("recipe")
    columns: list[Cell] = [(chosen.capitalize(), f"{quality};", "ranks"), (compare["split"].capitalize(), f"{quality},", "95 % interval")]
    columns.append(("Difference", "from the winner,", "95 % interval"))
    others = [e for e in measured_of(compare) if e[0] in ("perplexity", "nll", "forward_kl", "ece", "agreement") and e[0] != metric]
    columns += [(title,) for _, title, _ in others]
    columns += [("Time of a training", "wall clock"), ("Cost", "times", "hinton\u2011kd"), ("Updates", "of a training")]
    rows = []
    for place, name in enumerate(compare["recipes"], 1):
        result = compare["results"][name]
        test = result.get("test") or {}
        cells = [over_seeds(result.get("validation"), wording.percent), over_seeds(test.get(metric), wording.percent)]
        cells.append(("the winner",) if name == first and pairs else difference(pairs.get(name)))
        cells += [over_seeds(test.get(key), form) for key, _, form in others]
        cells.append(over_seeds(result.get("seconds"), duration))
        cells.append(NOTHING if result.get("cost") is None else (f"{result['cost']:.2f}",))
        cells.append(NOTHING if result.get("updates") is None else (f"{result['updates']:,}",))
        about = {"name": name, "place": place if known(result.get("validation")) else None, "first": name == first}
        rows.append({**about, "paper": cited(result.get("paper")), "note": _seeds_note(result), "cells": cells})
    kept = [at for at in range(len(columns)) if any(row["cells"][at][0] for row in rows)]
    return [columns[at] for at in kept], [{**row, "cells": [row["cells"][at] for at in kept]} for row in rows]


def over_seeds(found: Mapping[str, Any] | None, form: Callable[[float], str]) -> Cell:
    """A mean over seeds, and its interval where there is one."""
    if found is None or not known(found):
        return NOTHING
    low, high = found.get("low"), found.get("high")
    return (form(found["mean"]),) if low is None or high is None else (form(found["mean"]), _span(form(low), form(high)))


def difference(pair: Mapping[str, Any] | None) -> Cell:
    """How far a recipe is from the winner, and what was seen."""
    if pair is None:
        return NOTHING
    mean, low, high = turned(pair)
    if low is None or high is None:
        return signed(mean), "one seed: no interval"
    seen = {None: "no\u00a0difference\u00a0seen", "first": "behind", "second": "ahead"}[pair.get("better")]
    chance = pair.get("p_holm")
    return signed(mean), _span(signed(low), signed(high)), seen if chance is None else f"{seen}, p\u00a0{_chance(chance)}"


def signed(points: float) -> str:
    """A difference with its sign, none for what is rounded to nothing."""
    text = f"{points:+.2f}"
    return text if float(text) else "0.00"


def seeds(compare: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str, list[str], str]]]:
    """All single trainings: columns; and recipe, seed, a cell for each column, and the folder."""
    runs = [(name, seed, run) for name in compare["recipes"] for seed, run in (compare["results"][name].get("seeds") or {}).items()]
    chosen = (compare.get("chosen_on") or {}).get("split", "validation")
    measured = [each for each in measured_of(compare) if any((run.get("test") or {}).get(each[0]) is not None for _, _, run in runs)]
    columns = [f"{quality_of(compare).capitalize()} on {chosen}", *(title for _, title, _ in measured), "Time", "Updates"]
    rows = []
    for name, seed, run in runs:
        cells = [_cell((run.get("validation") or {}).get(compare["metric"]), wording.percent)]
        cells += [_cell((run.get("test") or {}).get(key), form) for key, _, form in measured]
        cells += [_cell(run.get("seconds"), duration), _cell(run.get("updates"), "{:,}".format)]
        rows.append((name, str(seed), cells, str(run.get("folder") or "")))
    return columns, rows


def tuning(compare: Mapping[str, Any]) -> list[tuple[str, list[str], list[tuple[str, str]]]]:
    """What was tried for each recipe that was tuned: its name, trials, pruned ones, updates, the validation reached; the chosen knobs."""
    found = []
    for name in compare["recipes"]:
        about = compare["results"][name].get("tuning")
        if about:
            cells = [_cell(about.get(key), "{:,}".format) for key in ("trials", "pruned", "updates")]
            found.append((name, [*cells, _cell(about.get("validation"), wording.percent)], flat(about.get("chosen") or {})))
    return found


def failed(compare: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What did not end: recipe, seed, error."""
    return [
        (name, str(each.get("seed", "")), str(each.get("error") or "no reason is known"))
        for name in compare["recipes"]
        for each in compare["results"][name].get("failed") or ()
    ]


def _cell(value: Any, form: Callable[[Any], str]) -> str:
    return "" if value is None else form(value)


def _span(low: str, high: str) -> str:
    """An interval that no line is broken in, its unit said once."""
    unit = next((each for each in (" %", "\u00a0s") if low.endswith(each) and high.endswith(each)), "")
    return f"{low.removesuffix(unit)} to {high.removesuffix(' %')}".replace(" ", "\u00a0")


def _chance(chance: float) -> str:
    return "<\u00a00.001" if chance < 0.001 else f"{chance:.2g}"


def _seeds_note(result: Mapping[str, Any]) -> str:
    ended, lost = len(result.get("seeds") or {}), len(result.get("failed") or ())
    if not lost:
        return ""
    return f"{lost} of {ended + lost} trainings failed"
