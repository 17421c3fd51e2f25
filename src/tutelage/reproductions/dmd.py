"""Yin et al., 2024: by distribution matching a student draws in one or a few evaluations what its teacher needs many for."""

from __future__ import annotations

from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.painting import BENCH, JUDGED, NET, measured, painter, studied

FIT = {"steps": 120, "batch_size": 64, "lr": 2e-4, "weight_decay": 0.0, "ema": 0.95}
TIMES = {1: (399,), 2: (999, 399), 4: (999, 749, 499, 249)}


def taught(count: int) -> Arm:
    """A generator of so many evaluations."""
    knobs = {"fit": FIT, "updates": 2, "times": TIMES[count]}
    return Arm(f"a generator of {count}, asked at {', '.join(map(str, TIMES[count]))}", NET, "dmd", "teacher", knobs=knobs)


REPRODUCTION = Reproduction(
    claim="A student that is taught by distribution matching draws images in 1, 2 and 4 evaluations that are nearer to real ones than "
    "those of its teacher by DDIM with as many evaluations.",
    bench=BENCH + "Students begin with the teacher's weights: 120 updates of 64, two of the second denoiser for each, without critic and "
    "regression. " + JUDGED,
    data=studied,
    measured=measured(1, 2, 4),
    fixtures={"teacher": painter()},
    arms={
        "teacher": Arm("the teacher as it is, by DDIM", fixture="teacher"),
        "in 1": taught(1),
        "in 2": taught(2),
        "in 4": taught(4),
    },
    predictions=[
        Difference("distance", "in 1", "teacher", lower=True, matters=0.1, than="distance in 1"),
        Difference("distance", "in 2", "teacher", lower=True, matters=0.1, than="distance in 2"),
        Difference("distance", "in 4", "teacher", lower=True, matters=0.1, than="distance in 4"),
    ],
    reported=("distance", "distance in 1", "distance in 2", "distance in 4", "recall", "of its class"),
    seeds=5,
    minutes=8,
)
