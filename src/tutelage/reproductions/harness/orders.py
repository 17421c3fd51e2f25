"""Predictions of scores that are measured beside the metric: does a score order the arms as they turn out, and does its choice pay?

Unlike `RankCorrelation`, whose scores are stated, these are numbers of each arm and seed, such as a guess from untrained weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.errors import BadInput
from tutelage.evaluation.seeds import Interval
from tutelage.reproductions.harness.predictions import Numbers, of
from tutelage.reproductions.harness.verdicts import Verdict, judged


@dataclass(frozen=True)
class Orders:
    """A score orders the arms as a metric does: Spearman's rank correlation over arms, of each seed.

    Args:
        metric: what the arms turn out to have.
        score: the number that shall tell beforehand.
        arms: over which.
        than: another score; the difference of both correlations is predicted to be positive.
        given: a number whose share is taken out of the correlation first: the partial rank correlation.
        over: the correlation, or difference, is predicted to be larger than this, >= 0.
        matters: the smallest one worth speaking of, > 0.

    Raises:
        BadInput: fewer than four arms, or both `than` and `given`.
    """

    metric: str
    score: str
    arms: tuple[str, ...]
    than: str = ""
    given: str = ""
    over: float = 0.0
    matters: float = 0.1
    kind: str = "rank"

    def __post_init__(self) -> None:
        if len(self.arms) < 4 or (self.than and self.given):
            raise BadInput(f"Orders({self.score!r}): expected at least four arms, and one of than and given at most")

    @property
    def says(self) -> str:
        """It in words."""
        held = f" at equal {self.given}" if self.given else ""
        better = f" better than {self.than} does" if self.than else ""
        by = f", by more than {self.over:g}" if self.over else ""
        return f"{self.score} orders {len(self.arms)} arms by {self.metric}{held}{better}{by}"

    @property
    def rule(self) -> str:
        """In words, when it counts as reproduced, and when not."""
        what = "difference of rank correlations" if self.than else "rank correlation"
        ruled = f"where {self.over:g} is ruled out" if self.over else f"within {self.matters:g} of 0"
        return f"reproduced where the {what} lies above {self.over:g}, reversed below 0, not reproduced {ruled}"

    def per_seed(self, numbers: Numbers) -> list[float]:
        """The correlations of each seed, or how much larger they are than the other score's."""
        ours = [spearman(score, metric) for score, metric in self._rows(numbers, self.score)]
        if self.than:
            theirs = [spearman(score, metric) for score, metric in self._rows(numbers, self.than)]
            return [a - b for a, b in zip(ours, theirs, strict=True)]
        if self.given:
            with_score = [spearman(held, score) for held, score in self._rows(numbers, self.given, self.score)]
            with_metric = [spearman(held, metric) for held, metric in self._rows(numbers, self.given)]
            return [partial(*each) for each in zip(ours, with_score, with_metric, strict=True)]
        return ours

    def verdict(self, found: Interval) -> Verdict:
        """The rule for a difference."""
        return judged(found, floor=self.over, matters=self.matters)

    def _rows(self, numbers: Numbers, score: str, metric: str = "") -> list[tuple[list[float], list[float]]]:
        """By seed, the numbers of all arms."""
        columns = [list(zip(of(numbers, arm, score), of(numbers, arm, metric or self.metric), strict=True)) for arm in self.arms]
        return [([a for a, _ in row], [b for _, b in row]) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Picks:
    """The arm with the highest score has more of a metric than the mean of all arms, which is what a random choice is worth.

    Args:
        metric: what the arms turn out to have.
        score: by which one is chosen.
        arms: among which.
        matters: the smallest gain worth speaking of, > 0.
    """

    metric: str
    score: str
    arms: tuple[str, ...]
    matters: float
    kind: str = "difference"

    @property
    def says(self) -> str:
        """It in words."""
        return f"{self.metric} of the arm that {self.score} picks of {len(self.arms)}, above their mean"

    @property
    def rule(self) -> str:
        """In words, when it counts as reproduced, and when not."""
        return f"reproduced above 0, reversed below 0, not reproduced within {self.matters:g} of 0"

    def per_seed(self, numbers: Numbers) -> list[float]:
        """How much better than the mean the choice of each seed is; the first of equal scores is chosen."""
        found = []
        rows = zip(*(of(numbers, arm, self.score) for arm in self.arms), strict=True)
        metrics = zip(*(of(numbers, arm, self.metric) for arm in self.arms), strict=True)
        for scores, values in zip(rows, metrics, strict=True):
            found.append(values[scores.index(max(scores))] - math.fsum(values) / len(values))
        return found

    def verdict(self, found: Interval) -> Verdict:
        """The rule for a difference."""
        return judged(found, matters=self.matters)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where all of a side are alike, which order nothing."""
    from scipy.stats import spearmanr

    return 0.0 if len(set(first)) == 1 or len(set(second)) == 1 else float(spearmanr(first, second)[0])


def partial(ours: float, with_score: float, with_metric: float) -> float:
    """The correlation of a score and a metric, less what both have from a third number; 0 where that says all of one of them."""
    left = (1 - with_score**2) * (1 - with_metric**2)
    return (ours - with_score * with_metric) / math.sqrt(left) if left > 1e-12 else 0.0
