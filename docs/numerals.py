"""Numbers in the units in which people read them: shares as percent, their differences in points, all else plain."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

SHARES = {"accuracy", "agreement", "f1"}
"""A metric with one of these words in its name is a share in [0, 1]."""
NAMES = {"nll": "nats a sample", "ece": "calibration error", "aurc": "area under risk over coverage", "macro_f1": "macro F1"}


class Estimate(Protocol):
    """A mean with its interval."""

    @property
    def mean(self) -> float:
        """The mean."""

    @property
    def low(self) -> float:
        """Lower end; minus infinity where it is not known."""

    @property
    def high(self) -> float:
        """Upper end."""


@dataclass(frozen=True)
class Unit:
    """What numbers are counted in.

    Args:
        factor: what they are multiplied by.
        points: what stands behind a difference.
        share: what stands behind a value.
    """

    factor: float
    points: str
    share: str


POINTS, PLAIN = Unit(100.0, " points", " %"), Unit(1.0, "", "")


def unit_of(metric: str) -> Unit:
    """The unit of a metric: percent and points for what is a share of the samples."""
    return POINTS if SHARES & set(re.split(r"[^a-z0-9]+", metric.lower())) else PLAIN


def name_of(metric: str) -> str:
    """What a metric is called."""
    return NAMES.get(metric, metric.replace("_", " "))


def difference(found: Estimate, unit: Unit) -> str:
    """A difference with its interval: "+1.20 points (+0.40 to +2.00)"."""
    return _told(found, unit, unit.points, "+")


def value(found: Estimate, unit: Unit) -> str:
    """A value with its interval: "97.20 % (96.80 to 97.60)"."""
    return _told(found, unit, unit.share, "")


def _told(found: Estimate, unit: Unit, behind: str, sign: str) -> str:
    numbers = [number * unit.factor for number in (found.mean, found.low, found.high)]
    digits = 2 if unit is POINTS else decimals(numbers)
    mean, low, high = (rounded(number, digits, sign) for number in numbers)
    known = math.isfinite(found.low) and math.isfinite(found.high)
    return f"{mean}{behind} ({low} to {high})" if known else f"{mean}{behind} (one seed, no interval)"


def rounded(number: float, digits: int, sign: str = "") -> str:
    """A number with so many decimals; what rounds to nothing has no sign."""
    text = f"{number:{sign}.{digits}f}" if math.isfinite(number) else ""
    return text if text.strip("+-0.") else text.lstrip("+-")


def decimals(numbers: list[float]) -> int:
    """How many decimals show three figures of the largest number, at most four."""
    largest = max((abs(number) for number in numbers if math.isfinite(number)), default=0.0)
    return 3 if largest == 0 else max(0, min(4, 2 - math.floor(math.log10(largest))))
