"""Predictions: what a paper's claim says of the numbers. Each makes one number of each seed, which is positive where it is as predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tutelage.errors import BadInput, nearest
from tutelage.evaluation.seeds import Interval
from tutelage.reproductions.harness.verdicts import Verdict, judged

Numbers: TypeAlias = Mapping[str, Mapping[str, Sequence[float]]]
"""By arm and metric, one number a seed."""


class Prediction(Protocol):
    """What a paper's claim says of the numbers."""

    @property
    def metric(self) -> str:
        """Which number of each arm it speaks of."""

    @property
    def kind(self) -> str:
        """What sort of prediction it is, in a word."""

    @property
    def says(self) -> str:
        """It in words."""

    @property
    def rule(self) -> str:
        """In words, when it counts as reproduced, and when not."""

    def per_seed(self, numbers: Numbers) -> list[float]:
        """One number of each seed, positive as predicted."""

    def verdict(self, found: Interval) -> Verdict:
        """What the interval of those numbers says."""


@dataclass(frozen=True)
class Difference:
    """One arm has more (or less) of a metric than another.

    Args:
        metric: which number.
        of: the arm that the claim speaks for.
        less: the arm that it is compared with.
        over: the difference is predicted to be larger than this, >= 0.
        matters: the smallest difference worth speaking of; needed where `over` is 0.
        lower: less of the metric is predicted.
        times: what the other arm's number is multiplied by first: with lower, "by more than 30 %" is 0.7.
        than: the other arm's metric, where it is another one.

    Raises:
        BadInput: neither `over` nor `matters` is above 0.
    """

    metric: str
    of: str
    less: str
    over: float = 0.0
    matters: float = 0.0
    lower: bool = False
    times: float = 1.0
    than: str = ""
    kind: str = "difference"

    def __post_init__(self) -> None:
        if not (self.over > 0 or (self.over == 0 and self.matters > 0)):
            raise BadInput(f"Difference({self.metric!r}): expected over > 0, or matters > 0: the smallest difference worth speaking of")

    @property
    def says(self) -> str:
        """It in words."""
        share = "" if self.times == 1 else f"{self.times:g} times "
        by = f" by more than {self.over:g}" if self.over else ""
        theirs = f"{self.than or 'that'} of {self.less}"
        return f"{self.metric} of {self.of} {'below' if self.lower else 'above'} {share}{theirs}{by}"

    @property
    def rule(self) -> str:
        """In words, when it counts as reproduced, and when not."""
        if self.over:
            return f"reproduced above {self.over:g}, reversed below 0, not reproduced where {self.over:g} is ruled out"
        return f"reproduced above 0, reversed below 0, not reproduced within {self.matters:g} of 0"

    def per_seed(self, numbers: Numbers) -> list[float]:
        """The differences, positive as predicted."""
        sign = -1 if self.lower else 1
        pairs = zip(of(numbers, self.of, self.metric), of(numbers, self.less, self.than or self.metric), strict=True)
        return [sign * (ours - self.times * theirs) for ours, theirs in pairs]

    def verdict(self, found: Interval) -> Verdict:
        """The rule, with `over` as the floor."""
        return judged(found, floor=self.over, matters=self.matters)


@dataclass(frozen=True)
class NonInferior:
    """One arm is not worse than another by as much as a margin.

    Args:
        metric: which number.
        of: the arm that the claim speaks for.
        less: the arm that it is compared with.
        margin: what would be worse by too much, > 0.
        lower: less of the metric is better.
    """

    metric: str
    of: str
    less: str
    margin: float
    lower: bool = False
    kind: str = "non-inferior"

    @property
    def says(self) -> str:
        """It in words."""
        return f"{self.metric} of {self.of} not {'above' if self.lower else 'below'} that of {self.less} by {self.margin:g} or more"

    @property
    def rule(self) -> str:
        """In words, when it counts as reproduced, and when not."""
        return f"reproduced above -{self.margin:g}, reversed below it"

    def per_seed(self, numbers: Numbers) -> list[float]:
        """The differences, positive where it is better."""
        return Difference(self.metric, self.of, self.less, matters=1, lower=self.lower).per_seed(numbers)

    def verdict(self, found: Interval) -> Verdict:
        """The interval lies above the margin, below it, or on both sides of it."""
        if found.low > -self.margin:
            return "reproduced"
        return "reversed" if found.high < -self.margin else "too noisy to say"


@dataclass(frozen=True)
class Level:
    """A metric of one arm lies above (or below) a number that the claim names.

    Args:
        metric: which number.
        of: the arm.
        above: the number; give this or `below`.
        below: the number.

    Raises:
        BadInput: both or neither.
    """

    metric: str
    of: str
    above: float | None = None
    below: float | None = None
    kind: str = "level"

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise BadInput(f"Level({self.metric!r}): give exactly one of above and below")

    @property
    def says(self) -> str:
        """It in words."""
        return f"{self.metric} of {self.of} " + (f"above {self.above:g}" if self.above is not None else f"below {self.below:g}")

    @property
    def rule(self) -> str:
        """In words, when it counts as reproduced, and when not."""
        return "reproduced where the interval lies on that side, not reproduced where it lies on the other"

    def per_seed(self, numbers: Numbers) -> list[float]:
        """How far on the predicted side each seed is."""
        values = of(numbers, self.of, self.metric)
        return [v - self.above for v in values] if self.above is not None else [float(self.below or 0) - v for v in values]

    def verdict(self, found: Interval) -> Verdict:
        """The interval lies on one side, the other, or both."""
        if found.low > 0:
            return "reproduced"
        return "not reproduced at this scale" if found.high < 0 else "too noisy to say"


@dataclass(frozen=True)
class Trend:
    """The difference between two arms grows along a series: with depth, with noise, with time.

    Each seed's number is the rise of the straight line through its differences, from the first level to the last.

    Args:
        metric: which number.
        of: the arms that the claim speaks for, along the series.
        less: those that they are compared with.
        levels: where on the series they stand, rising.
        matters: the smallest rise worth speaking of, > 0.
        lower: less of the metric is better.

    Raises:
        BadInput: fewer than two levels, or other numbers of arms.
    """

    metric: str
    of: tuple[str, ...]
    less: tuple[str, ...]
    levels: tuple[float, ...]
    matters: float
    lower: bool = False
    kind: str = "trend"

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if len(self.levels) < 2 or not rising or not len(self.of) == len(self.less) == len(self.levels) or self.matters <= 0:
            raise BadInput(f"Trend({self.metric!r}): expected at least two rising levels, as many arms on both sides, and matters > 0")

    @property
    def says(self) -> str:
        """It in words."""
        ends = f"from {self.of[0]} against {self.less[0]} to {self.of[-1]} against {self.less[-1]}"
        return f"difference in {self.metric} grows {ends}"

    @property
    def rule(self) -> str:
        """In words, when it counts as reproduced, and when not."""
        return f"reproduced where the line rises, reversed where it falls, not reproduced within {self.matters:g} of 0"

    def per_seed(self, numbers: Numbers) -> list[float]:
        """The rise of each seed's line."""
        gaps = [
            Difference(self.metric, a, b, matters=1, lower=self.lower).per_seed(numbers) for a, b in zip(self.of, self.less, strict=True)
        ]
        middle = math.fsum(self.levels) / len(self.levels)
        spread = math.fsum((x - middle) ** 2 for x in self.levels)
        reach = self.levels[-1] - self.levels[0]
        return [
            reach * math.fsum((x - middle) * y for x, y in zip(self.levels, line, strict=True)) / spread for line in zip(*gaps, strict=True)
        ]

    def verdict(self, found: Interval) -> Verdict:
        """The rule for a plain difference."""
        return judged(found, matters=self.matters)


@dataclass(frozen=True)
class RankCorrelation:
    """A score that each arm has beforehand orders the arms as a metric does: Spearman's correlation, of each seed.

    Args:
        metric: which number.
        scores: by arm.
        over: the correlation is predicted to be larger than this, >= 0.
        matters: the smallest correlation worth speaking of, > 0, where `over` is 0.

    Raises:
        BadInput: fewer than three arms.
    """

    metric: str
    scores: Mapping[str, float]
    over: float = 0.0
    matters: float = 0.2
    kind: str = "rank"

    def __post_init__(self) -> None:
        if len(self.scores) < 3:
            raise BadInput(f"RankCorrelation({self.metric!r}): expected at least three arms")

    @property
    def says(self) -> str:
        """It in words."""
        return f"the score orders {len(self.scores)} arms as their {self.metric} does" + (f", above {self.over:g}" if self.over else "")

    @property
    def rule(self) -> str:
        """In words, when it counts as reproduced, and when not."""
        return f"reproduced where the rank correlation lies above {self.over:g}, reversed below 0"

    def per_seed(self, numbers: Numbers) -> list[float]:
        """Spearman's correlation of each seed; 0 where all arms are alike."""
        from scipy.stats import spearmanr

        rows = zip(*(of(numbers, arm, self.metric) for arm in self.scores), strict=True)
        scores = list(self.scores.values())
        return [0.0 if len(set(row)) == 1 or len(set(scores)) == 1 else float(spearmanr(scores, row)[0]) for row in rows]

    def verdict(self, found: Interval) -> Verdict:
        """The rule, with `over` as the floor."""
        return judged(found, floor=self.over, matters=self.matters)


def of(numbers: Numbers, arm: str, metric: str) -> Sequence[float]:
    """One arm's numbers.

    Raises:
        BadInput: no such arm or metric; names the nearest.
    """
    if arm not in numbers:
        raise BadInput(f"a prediction speaks of the arm {arm!r}, which is not there{nearest(arm, numbers)}")
    if metric not in numbers[arm]:
        raise BadInput(f"a prediction speaks of {metric!r}, which {arm} has not{nearest(metric, numbers[arm])}")
    return numbers[arm][metric]
