"""Kim et al., 2021: targets mixed with the net's own past predictions make it calibrated and no less accurate."""

from __future__ import annotations

from collections.abc import Mapping

from tutelage.data import Data
from tutelage.evaluation import aurc
from tutelage.reproductions.harness import Arm, Difference, Made, NonInferior, Reproduction, each_try, outcome
from tutelage.reproductions.harness.benches import fm14

NET = "cnn:width=32,depth=3,pools=2"
LENGTH = {"fit": {"steps": 2_340}}
RATES = each_try(**{"fit.lr": (1e-3, 3e-3, 1e-2)})


def studied(seed: int) -> Data:
    """What all arms study."""
    return fm14(seed, 5_000)


def measured(made: Made) -> Mapping[str, float]:
    """The usual numbers, and the area under the risk-coverage curve."""
    return {**outcome(made), "aurc": aurc(made.shown)}


REPRODUCTION = Reproduction(
    claim="A net that learns from its own past predictions has a calibration error at least 30 % lower than on labels alone, fewer nats, "
    "no more errors, and orders its answers by confidence better than with smoothed labels.",
    bench="Fashion-MNIST at 14x14, 5,000 images, a net of three convolutions, 32-64-128, 94,186 parameters, 2,340 updates (30 epochs). "
    "Each seed cuts its own images.",
    data=studied,
    measured=measured,
    arms={
        "alone": Arm("on the labels", NET, "alone", knobs=LENGTH, tries=RATES),
        "smoothed": Arm("on labels smoothed by 0.1", NET, "alone", knobs={**LENGTH, "label_smoothing": 0.1}, tries=RATES),
        "own past": Arm("on labels mixed with its own past", NET, "ps-kd", knobs=LENGTH, tries=RATES),
    },
    predictions=[
        Difference("ece", "own past", "alone", lower=True, times=0.7, matters=0.005),
        Difference("nll", "own past", "alone", lower=True, matters=0.01),
        NonInferior("accuracy", "own past", "alone", margin=0.005),
        Difference("aurc", "own past", "smoothed", lower=True, matters=0.002),
    ],
    reported=("accuracy", "nll", "ece", "aurc"),
    seeds=8,
    minutes=12,
)
