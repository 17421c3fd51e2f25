"""The rule that turns numbers into a verdict. It looks at the 95 % interval over seeds, and was fixed before any result:

- reproduced: the interval lies above what was predicted at least (0 for a plain difference);
- reversed: it lies below 0;
- not reproduced at this scale: it rules out a difference worth speaking of, in either direction;
- too noisy to say: anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tutelage.evaluation.seeds import Interval

Verdict = Literal["reproduced", "not reproduced at this scale", "reversed", "too noisy to say"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced at this scale", "reversed", "too noisy to say")


def judged(found: Interval, *, floor: float = 0.0, matters: float = 0.0) -> Verdict:
    """The rule. For a plain difference (no floor) it is symmetric: with the arms exchanged, reproduced becomes reversed, the rest stays.

    Args:
        found: the mean over seeds with its interval, positive as predicted.
        floor: the least that was predicted, >= 0.
        matters: the smallest difference worth speaking of, > 0, where there is no floor.
    """
    if found.low > floor:
        return "reproduced"
    if found.high < 0:
        return "reversed"
    ruled_out = found.high < floor if floor > 0 else -matters < found.low and found.high < matters
    return "not reproduced at this scale" if ruled_out else "too noisy to say"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim that needs all of its predictions: the worst of theirs."""
    order: tuple[Verdict, ...] = ("reversed", "not reproduced at this scale", "too noisy to say", "reproduced")
    return min(verdicts, key=order.index)
