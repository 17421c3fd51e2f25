"""Ho et al., 2020: a denoiser trained on the plain error of the noise draws better images than one trained on the variational bound."""

from __future__ import annotations

from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.painting import BENCH, FIT, JUDGED, NET, measured, studied

REPRODUCTION = Reproduction(
    claim="A denoiser that is trained on the plain error of the noise draws images that are nearer to real ones than one that is trained "
    "on the variational bound; and either draws better ones in 50 evaluations than in 4.",
    bench=BENCH.partition(" Teacher")[0] + " Both nets: 800 updates of 64 images, one learning rate. Drawn by DDIM of 50 steps. " + JUDGED,
    data=studied,
    measured=measured(4, 10),
    arms={
        "plain": Arm("trained on the plain error of the noise", NET, "ddpm", knobs={"fit": FIT, "weight": "eps"}),
        "bound": Arm("trained on the variational bound", NET, "ddpm", knobs={"fit": FIT, "weight": "bound"}),
    },
    predictions=[
        Difference("distance", "plain", "bound", lower=True, matters=0.1),
        Difference("distance", "plain", "plain", lower=True, matters=0.1, than="distance in 4"),
        Difference("distance", "bound", "bound", lower=True, matters=0.1, than="distance in 4"),
    ],
    reported=("distance", "distance in 4", "distance in 10", "recall", "of its class"),
    seeds=5,
    minutes=5,
)
