"""Timing: sides that take turns within one run, the spread of what they took, and where it was measured.

Two things that are timed one after the other differ by what else the processor did meanwhile. Here they take turns, a short block each, so
that a change of speed meets all of them, and ratios are taken between the blocks of one round.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

import tutelage
from tutelage.state import Stateful

Row = dict[str, Any]


def turns(sides: Mapping[str, Callable[[], object]], rounds: int, warm: int = 2) -> dict[str, list[float]]:
    """Let sides take turns; who begins moves on by one each round.

    Args:
        sides: what is timed, by name.
        rounds: how often each is timed.
        warm: rounds before those, which do not count.

    Returns:
        Seconds of each side, round by round.
    """
    names, taken = list(sides), {name: [] for name in sides}  # type: list[str], dict[str, list[float]]
    for number in range(warm + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            begun = time.perf_counter()
            sides[name]()
            seconds = time.perf_counter() - begun
            if number >= warm:
                taken[name].append(seconds)
    return taken


class Trains(Protocol):
    """A training that goes on for some steps when it is told to."""

    def run(self, steps: int) -> None:
        """Go on."""


class Alternate(Stateful):
    """A part of a stage: after each block of our steps, stops our watch and lets another training go on for as many.

    Args:
        other: the other training.
        block: steps.
        check: called when both have done their first block; raises where they did not do the same work.

    Attributes:
        ours: seconds of our blocks.
        others: seconds of the other's.
    """

    def __init__(self, other: Trains, block: int, check: Callable[[], None]) -> None:
        self.other, self.block, self.check = other, block, check
        self.ours: list[float] = []
        self.others: list[float] = []
        self.mark = 0.0

    def after_step(self, step: Any) -> None:
        """Take the times at the end of a block."""
        if (step.clock.step + 1) % self.block:
            return
        now = time.perf_counter()
        self.ours.append(now - self.mark)
        self.other.run(self.block)
        self.others.append(time.perf_counter() - now)
        if len(self.ours) == 1:
            self.check()
        self.mark = time.perf_counter()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 4), "lower_quartile": round(low, 4), "upper_quartile": round(high, 4)}


def compared(
    what: str,
    against: str,
    reference: Sequence[float],
    ours: Sequence[float],
    *,
    each: int = 1,
    target: Mapping[str, float] | None = None,
    brief: bool = False,
) -> Row:
    """One row of the table.

    Args:
        what: was measured.
        against: what it was compared with.
        reference: seconds of the other side, block by block.
        ours: seconds of our side in the same rounds.
        each: steps or passes in a block.
        target: {"ratio": at most} or {"ms": at most}, of the medians.
        brief: whether the README shows the row.
    """
    return {
        "what": what,
        "against": against,
        "blocks": len(ours),
        "block": each,
        "reference_ms": spread([seconds / each * 1e3 for seconds in reference]),
        "ms": spread([seconds / each * 1e3 for seconds in ours]),
        "ratio": spread([a / b for a, b in zip(ours, reference, strict=True)]),
        "target": dict(target or {}),
        "brief": brief,
    }


def surroundings() -> dict[str, Any]:
    """Versions, and the kind of machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "tutelage": tutelage.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()})",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory),
        "load": round(os.getloadavg()[0], 2),
    }
