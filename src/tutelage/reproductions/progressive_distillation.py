"""Salimans & Ho, 2022: a sampler whose steps were halved again and again draws better in few steps than the teacher in as few."""

from __future__ import annotations

from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.painting import BENCH, JUDGED, NET, measured, painter, studied

PREDICTS = ",predicts=v"
FIT = {"steps": 150, "batch_size": 64, "lr": 5e-4, "weight_decay": 0.0, "schedule": "linear", "ema": 0.95}


def halved(last: int) -> Arm:
    """A student whose sampler takes so many steps."""
    return Arm(
        f"halved from 16 to {last}",
        NET + PREDICTS,
        "progressive-distillation",
        "teacher",
        knobs={"fit": FIT, "first": 8, "last": last},
        unequal="fewer steps take more halvings, each of 150 updates",
    )


REPRODUCTION = Reproduction(
    claim="A student whose sampler was halved from 16 steps to 4, 2 and 1 draws images that are nearer to real ones than those of its "
    "teacher by DDIM with as many steps.",
    bench=BENCH + "It predicts the velocity. Students: 150 updates of 64 images for each halving. " + JUDGED,
    data=studied,
    measured=measured(1, 2, 4),
    fixtures={"teacher": painter(net=PREDICTS)},
    arms={
        "teacher": Arm("the teacher as it is, by DDIM", fixture="teacher"),
        "in 4": halved(4),
        "in 2": halved(2),
        "in 1": halved(1),
    },
    predictions=[Difference("distance", f"in {n}", "teacher", lower=True, matters=0.1, than=f"distance in {n}") for n in (4, 2, 1)],
    reported=("distance", "distance in 1", "distance in 2", "distance in 4", "recall", "of its class"),
    seeds=5,
    minutes=6,
)
