"""What a run's report says against what is measured now, number by number; times are not compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LIKE = ("agreement", "similarity", "neighbours")
"""What is said of a model and its teacher."""
OF_ENCODERS = ("probe_accuracy", "score_correlation", "mrr", "recall_at_10", "similarity", "neighbours")
COMPARED = ("accuracy", "macro_f1", "perplexity", "nll", "ece", "entropy", "agreement", *OF_ENCODERS, "parameters", "bytes", "flops")
ABOUT = ("class", "samples")
"""What a row of classes holds besides recalls."""
TOLERANCE = 1e-6
"""Relative above 1, absolute below: what rounding in another order of sums may change."""


def against(
    report: Mapping[str, Any], numbers: Mapping[str, Mapping[str, Any]], per_class: Sequence[Mapping[str, Any]] | None, *, agreement: bool
) -> dict[str, Any]:
    """Hold numbers against those of a report.

    Args:
        report: the content of report.json.
        numbers: of each model by name, as they are now.
        per_class: recalls, as `measurement.by_class` gives them; None without labels.
        agreement: whether agreement is with the same teacher.

    Returns:
        `numbers`: for each that the report holds and that was measured again its `name` ("student accuracy"), `report`, `here` and
        `equal`; and `equal`, whether all are.
    """
    pairs = [*_of_models(report, numbers, agreement), *_of_classes(report, per_class or ())]
    rows = [{"name": name, "report": before, "here": now, "equal": _same(before, now)} for name, before, now in pairs]
    return {"equal": all(row["equal"] for row in rows), "numbers": rows}


def _of_models(report: Mapping[str, Any], numbers: Mapping[str, Mapping[str, Any]], agreement: bool) -> Iterator[tuple[str, Any, Any]]:
    for model in report["models"]:
        before = report.get(model)
        if model in numbers and isinstance(before, Mapping):
            kept = [
                key
                for key in COMPARED
                if before.get(key) is not None and (agreement or key not in ("agreement", "similarity", "neighbours"))
            ]
            yield from ((f"{model} {key}", before[key], numbers[model].get(key)) for key in kept)


def _of_classes(report: Mapping[str, Any], per_class: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    before = report.get("per_class")
    recorded = {str(row.get("class")): row for row in before if isinstance(row, Mapping)} if isinstance(before, list) else {}
    for row in per_class:
        then = recorded.get(str(row["class"]), {})
        yield from ((f"{model} recall of {row['class']}", then[model], row[model]) for model in row if model in then and model not in ABOUT)


def _same(before: Any, now: Any) -> bool:
    if not isinstance(before, (int, float)) or not isinstance(now, (int, float)):
        return before == now
    return abs(before - now) <= TOLERANCE * max(1.0, abs(before))
