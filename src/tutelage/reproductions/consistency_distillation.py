"""Song et al., 2023: a consistent student draws in one evaluation better than its teacher in two, and in two better than in one."""

from __future__ import annotations

from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.painting import BENCH, JUDGED, NET, measured, painter, studied

PREDICTS = ",predicts=v"
FIT = {"steps": 400, "batch_size": 64, "lr": 5e-4, "weight_decay": 0.0, "ema": 0.95}

REPRODUCTION = Reproduction(
    claim="A student of consistency distillation draws images that are nearer to real ones in one evaluation than its teacher by DDIM in "
    "one or two; and in two nearer than in one.",
    bench=BENCH + "It predicts the velocity. Student: 400 updates of 64 images on a grid of 50 times. " + JUDGED,
    data=studied,
    measured=measured(1, 2, 4),
    fixtures={"teacher": painter(net=PREDICTS)},
    arms={
        "teacher": Arm("the teacher as it is, by DDIM", fixture="teacher"),
        "consistent": Arm("consistency distillation", NET + PREDICTS, "consistency-distillation", "teacher", knobs={"fit": FIT}),
    },
    predictions=[
        Difference("distance in 1", "consistent", "teacher", lower=True, matters=0.1),
        Difference("distance in 1", "consistent", "teacher", lower=True, matters=0.1, than="distance in 2"),
        Difference("distance in 2", "consistent", "consistent", lower=True, matters=0.1, than="distance in 1"),
    ],
    reported=("distance in 1", "distance in 2", "distance in 4", "distance", "recall", "of its class"),
    seeds=5,
    minutes=5,
)
