"""Madry et al., 2018: a net trained on the labels alone is right on next to nothing under attack; one trained under attack keeps much."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tutelage.attacks import pgd
from tutelage.data import Data
from tutelage.evaluation import Referee, measure, robustness, under_attack
from tutelage.reproductions.harness import Arm, Difference, Level, Made, Reproduction
from tutelage.reproductions.harness.benches import fm14

EPS = 0.1
NET = "cnn:width=12,depth=3,pools=2"
FIT = {"fit": {"steps": 300, "batch_size": 128, "lr": 1e-2}}
TRAINED = {"eps": EPS, "steps": 5}
JUDGED, REFEREED, QUERIES = 1_000, 200, 100
"""Test images that PGD-20 and the referee look at, and the referee's queries of each."""


def studied(seed: int) -> Data:
    """What all nets study."""
    return fm14(seed, 10_000)


def measured(made: Made) -> Mapping[str, float]:
    """Accuracy on all test images; on some of them under PGD with four times the steps of the training, and under the referee's attack."""
    test = made.data.test
    assert test is not None
    clean = measure(made.shown)
    some = test.rows(torch.arange(min(JUDGED, len(test))), test.name)
    few = test.rows(torch.arange(min(REFEREED, len(test))), test.name)
    attacked = under_attack(made.product, some, pgd(eps=EPS, steps=20))
    robust = robustness(attacked, attacked)["robust_accuracy"]
    refereed = under_attack(made.product, few, Referee("square", EPS, QUERIES))
    return {
        **{name: clean[name] for name in ("accuracy", "nll", "ece")},
        "PGD-20": robust,
        "W-robust": (clean["accuracy"] + robust) / 2,
        "Square": robustness(refereed, refereed)["robust_accuracy"],
    }


REPRODUCTION = Reproduction(
    claim="A small net trained on the labels alone is right on less than a tenth of images that PGD may change by 0.1; trained under PGD "
    "it is right on over 40 points more of them, and on over a point fewer of the images as they are.",
    bench="Fashion-MNIST at 14x14, 10,000 images in [0, 1]. Both nets: three convolutions, 12-24-48, 300 updates of 128 images, one "
    "learning rate. Training attack: five steps of PGD, linf 0.1. Judges: PGD-20 on 1,000 test images; the Square attack of the "
    "Adversarial Robustness Toolbox, 100 queries, on 200. Each seed cuts its own images.",
    data=studied,
    measured=measured,
    arms={
        "alone": Arm("the net on the labels alone", NET, "alone", knobs=FIT),
        "pgd-at": Arm("the net under PGD", NET, "pgd-at", knobs={**FIT, "attack": TRAINED}),
    },
    predictions=[
        Level("PGD-20", "alone", below=0.1),
        Difference("PGD-20", "pgd-at", "alone", over=0.4),
        Difference("accuracy", "pgd-at", "alone", over=0.01, lower=True),
        Difference("Square", "pgd-at", "alone", over=0.2),
    ],
    reported=("accuracy", "PGD-20", "Square", "W-robust"),
    seeds=5,
    minutes=3,
)
