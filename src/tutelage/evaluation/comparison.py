"""Two models on the same samples: the difference of their numbers with its interval, and whether chance alone could have made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutelage.evaluation.bootstrap import Drawn, calibration_interval, interval
from tutelage.evaluation.classification import NO_LABEL, Predictions
from tutelage.evaluation.intervals import LEVEL, paired


def difference(first: Predictions, second: Predictions) -> dict[str, Any] | None:
    """How much more often the first model is right than the second, on the same samples.

    Returns:
        `accuracy`, the difference; `low` and `high`, its 95 % interval over samples (see `intervals.paired`), which knows nothing of how
        other seeds would have ended; `only_first` and `only_second`, samples on which one alone is right. None without labels, or where
        the predictions are not one class a sample.
    """
    hard = first.hard()
    if hard is None or second.logits.ndim != 2:
        return None
    known = hard != NO_LABEL
    if not known.any():
        return None
    ours, theirs = ((each.choices() == hard)[known] for each in (first, second))
    one, other, samples = int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), int(known.sum())
    low, high = paired(one, other, samples)
    return {"accuracy": (one - other) / samples, "low": low, "high": high, "only_first": one, "only_second": other}


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test: how likely so uneven a split of the samples on which one model alone is right would be by chance, two-sided.

    Args:
        only_first: samples on which the first alone is right.
        only_second: samples on which the second alone is right.

    Returns:
        The p-value in (0, 1], 1 where the two never differ. It errs on the side of no difference: there is no mid-p correction.

    Source: McNemar, "Note on the Sampling Error of the Difference between Correlated Proportions or Percentages", Psychometrika 12, 1947.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def holm(chances: Sequence[float]) -> list[float]:
    """P-values of several tests, raised so that one false find among all of them is as rare as each p-value says.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    raised, largest = [0.0] * len(chances), 0.0
    for rank, at in enumerate(sorted(range(len(chances)), key=lambda i: chances[i])):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[at]))
        raised[at] = largest
    return raised


def compared(first: str, second: str, gap: dict[str, Any], drawn: dict[str, Drawn]) -> dict[str, Any]:
    """All differences between two models.

    Args:
        first: a name in `drawn`.
        second: another.
        gap: what `difference` says of them.
        drawn: what `bootstrap.draw` says of all models.

    Returns:
        `first` and `second`, their names; `only_first`, `only_second` and `p`, of McNemar's exact test; and, each with `difference` (first
        less second), `low` and `high`: `accuracy`, `macro_f1`, `nll` and `ece`.
    """
    ours, theirs = drawn[first], drawn[second]
    found: dict[str, Any] = {"first": first, "second": second, "only_first": gap["only_first"], "only_second": gap["only_second"]}
    found["p"] = mcnemar(gap["only_first"], gap["only_second"])
    found["accuracy"] = {"difference": gap["accuracy"], "low": gap["low"], "high": gap["high"]}
    for key in ("macro_f1", "nll"):
        gaps = getattr(ours, key) - getattr(theirs, key)
        low, high = interval(gaps)
        found[key] = {"difference": float(gaps[0]), "low": low, "high": high}
    # draws of the difference share no common bias: each error has its own; as wide as the two intervals allow is wide enough
    (low, high), (their_low, their_high) = calibration_interval(ours), calibration_interval(theirs)
    found["ece"] = {"difference": float(ours.ece[0] - theirs.ece[0]), "low": low - their_high, "high": high - their_low}
    return found


def judged(comparisons: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The comparisons with `p_holm`, their p-values raised for there being several, and `better`: "first", "second", or None where chance
    could have made the difference in accuracy (at the level of the intervals).
    """
    found = []
    for each, raised in zip(comparisons, holm([c["p"] for c in comparisons]), strict=True):
        seen = raised < 1 - LEVEL
        better = None if not seen else "first" if each["only_first"] > each["only_second"] else "second"
        found.append({**each, "p_holm": raised, "better": better})
    return found
