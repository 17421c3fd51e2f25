"""Replay the first updates of one seed, and compare them with those that were recorded beside the results.

What is replayed is every stage of every fixture and arm, each ended after a few updates but with the schedules of its whole length: so a
change of code that alters what a committed result says is noticed within seconds. Students learn from fixtures that were cut short, too.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import Failed, TutelageError
from tutelage.jobs.pool import Pool
from tutelage.jobs.progress import Progress
from tutelage.jobs.trials import carry_out
from tutelage.reproductions import load
from tutelage.reproductions.harness.design import Reproduction
from tutelage.reproductions.harness.drive import arm_trials

TOLERANCE = 1e-3
"""Of losses and nats, relative: other processors add in another order, and a few updates carry that on."""
LOOSE = 0.02
"""Of shares of the samples, absolute: a rounding may turn a few of them."""
SEED = 0


class Differs(TutelageError, RuntimeError):
    """The code no longer does what the committed result says."""

    exit_code = 1


def prefix(name: str, pool: Pool, chosen: Mapping[str, int], shown: Progress | None = None) -> dict[str, Any]:
    """The beginning of one seed.

    Args:
        name: of the reproduction.
        pool: what runs it.
        chosen: by arm, which of its tries; 0 where it is not said.
        shown: hears of each trial.

    Returns:
        `seed`, `updates` of each stage, `chosen`, and `trials`: by name the `losses` by stage and term, and for arms `numbers`.
    """
    claim = load(name)
    picked = {arm: chosen.get(arm, 0) for arm, each in claim.arms.items() if each.tries}
    trials, show = arm_trials(name, claim, [SEED], picked, limit=claim.prefix), shown or Progress(False)
    show.part("the first updates", len(trials))
    with tempfile.TemporaryDirectory() as folder:
        outcomes = carry_out(trials, Path(folder), pool, told=show.told)
    lost = [o for o in outcomes.values() if o.error]
    if lost:
        raise Failed(f"the prefix cannot be replayed: {lost[0].name}: {lost[0].error}")
    found = {n: {k: v for k, v in (o.found or {}).items() if k in ("losses", "numbers")} for n, o in outcomes.items()}
    return {"seed": SEED, "updates": claim.prefix, "chosen": picked, "tolerance": TOLERANCE, "trials": found}


def check(name: str, recorded: Mapping[str, Any], pool: Pool) -> int:
    """Replay a recorded prefix.

    Returns:
        How many numbers were compared.

    Raises:
        Differs: names what differs, both numbers, and what to do.
    """
    claim: Reproduction = load(name)
    was = recorded["prefix"]
    if was["updates"] != claim.prefix or set(recorded["arms"]) != set(claim.arms):
        raise Differs(f"{name} was changed after it was measured; measure it again: tutelage reproduce {name}")
    now = prefix(name, pool, was["chosen"])
    differing = compared(was["trials"], now["trials"])
    if differing:
        first = differing[0]
        raise Differs(
            f"{name}: {len(differing)} replayed numbers differ from the recorded ones, first {first}; "
            f"if the change of code is meant, measure the claim again: tutelage reproduce {name}"
        )
    return len(list(_numbers(was["trials"])))


def compared(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs by more than is allowed, each in a few words."""
    theirs, ours = dict(_numbers(was)), dict(_numbers(now))
    found = [f"{path}: is {'missing' if path in theirs else 'new'}" for path in sorted(set(theirs) ^ set(ours))]
    for path in theirs.keys() & ours.keys():
        share = not (path.rpartition("/")[2].rpartition(" ")[2] == "nll" or "/losses/" in path)
        close = (
            abs(theirs[path] - ours[path]) <= LOOSE if share else math.isclose(theirs[path], ours[path], rel_tol=TOLERANCE, abs_tol=1e-6)
        )
        if not close:
            found.append(f"{path}: {theirs[path]:.6g} recorded, {ours[path]:.6g} now")
    return sorted(found)


def _numbers(value: Any, path: str = "") -> Sequence[tuple[str, float]]:
    """Every number of nested plain values, by its path."""
    if isinstance(value, Mapping):
        return [pair for k, v in value.items() for pair in _numbers(v, f"{path}/{k}")]
    if isinstance(value, list):
        return [pair for i, v in enumerate(value) for pair in _numbers(v, f"{path}/{i}")]
    return [(path, float(value))] if isinstance(value, (int, float)) else []
