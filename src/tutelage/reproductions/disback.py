"""Zhang et al., 2024: led back along the way on which its teacher was spoilt, a generator converges faster than without it."""

from __future__ import annotations

from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.painting import BENCH, JUDGED, NET, measured, painter, studied

BUDGETS = (40, 120)
SHARED = {"updates": 2}
SPOILT = 0.2
"""Share of the updates that go into the way."""


def _fit(steps: int) -> dict[str, float]:
    return {"steps": steps, "batch_size": 64, "lr": 2e-4, "weight_decay": 0.0, "ema": 0.95}


def _arms() -> dict[str, Arm]:
    arms = {"teacher": Arm("the teacher as it is, by DDIM", fixture="teacher")}
    for budget in BUDGETS:
        spoilt = round(SPOILT * budget)
        arms[f"dmd, {budget}"] = Arm(
            f"score distillation, {budget} updates",
            NET,
            "dmd",
            "teacher",
            knobs={**SHARED, "fit": _fit(budget)},
            unequal="compared with the arm of equally many",
        )
        arms[f"disback, {budget}"] = Arm(
            f"{spoilt} updates along the way there, then {budget - spoilt} back and on",
            NET,
            "disback",
            "teacher",
            knobs={**SHARED, "nodes": 4, "degrade_fit": {**_fit(spoilt), "ema": None}, "fit": _fit(budget - spoilt)},
            unequal="the way is counted among its updates",
        )
    return arms


REPRODUCTION = Reproduction(
    claim="With the same number of updates, those of the way included, a one-step generator that is led back along it is nearer to real "
    "images than one by score distillation alone, after few updates as after many.",
    bench=BENCH + "Students begin with the teacher's weights, asked at time 399: 40 and 120 updates of 64, two of the second denoiser "
    "for each; with the way, a fifth of them spoil the teacher, through 4 snapshots, and the next 16 % lead back. " + JUDGED,
    data=studied,
    measured=measured(),
    fixtures={"teacher": painter()},
    arms=_arms(),
    predictions=[Difference("distance", f"disback, {n}", f"dmd, {n}", lower=True, matters=0.1) for n in BUDGETS],
    reported=("distance", "recall", "of its class"),
    seeds=5,
    minutes=9,
)
