"""Intervals of shares: how far another draw of as many samples could have come out. They know nothing of other seeds of a training.

Where a number is no share, see `bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

LEVEL = 0.95
"""Of all intervals."""


def exact(hits: int, samples: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share that holds the true one at least as often as it says, however few samples there are.

    Args:
        hits: samples that count, 0 to `samples`.
        samples: all samples; without any, nothing is known: 0 to 1.
        level: how often it holds the true share.

    Returns:
        Its ends, in [0, 1].

    Source: Clopper & Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial", Biometrika 26, 1934.
    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, samples - hits + 1, tail))
    high = 1.0 if hits == samples else float(betaincinv(hits + 1, samples - hits, 1 - tail))
    return low, high


def paired(only_first: int, only_second: int, samples: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the difference between two shares of the same samples, by the score test.

    It leaves 0 out where McNemar's test (without a continuity correction) finds a difference, has a width also where the two never differ,
    and stays within -1 and 1.

    Args:
        only_first: samples that count for the first alone.
        only_second: samples that count for the second alone.
        samples: all samples, at least 1.
        level: how often it holds the true difference, about.

    Returns:
        Its ends, first less second.

    Source: Tango, "Equivalence Test and Confidence Interval for the Difference in Proportions for the Paired-Sample Design", Statistics in
        Medicine 17, 1998.
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    gap = (only_first - only_second) / samples
    # the statistic falls as the supposed difference grows
    low = _crossing(lambda d: _score(only_first, only_second, samples, d) > z, -1.0, gap)
    high = _crossing(lambda d: _score(only_first, only_second, samples, d) > -z, gap, 1.0)
    return low, high


def _score(only_first: int, only_second: int, samples: int, supposed: float) -> float:
    """How many standard errors the difference lies above a supposed one, the share of `only_second` fitted to it by likelihood."""
    b = (2 * samples - only_first + only_second) * supposed - only_first - only_second
    c = -only_second * supposed * (1 - supposed)
    fitted = (math.sqrt(max(b * b - 8 * samples * c, 0.0)) - b) / (4 * samples)
    over = only_first - only_second - samples * supposed
    variance = samples * (2 * fitted + supposed * (1 - supposed))
    return over / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, over) if over else 0.0


def _crossing(above: Callable[[float], bool], low: float, high: float) -> float:
    """Where a test that holds at the low end ceases to, by halving."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return (low + high) / 2
