"""Hinton et al., 2015: soft targets of a teacher that has seen much are worth more to a small net than its few labels.

Two claims. A student that studies 1,000 images learns more from the teacher than from the labels. And the teacher's probabilities speak of
classes that are not there: a student that has never seen a dress still knows one, once the bias of that class is set right.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tutelage.data import Data
from tutelage.evaluation import Predictions, predict
from tutelage.reproductions.harness import Arm, Difference, Level, Made, Reproduction, each_try, outcome
from tutelage.reproductions.harness.benches import fm14, without

DRESS = 3
STUDENT = "cnn:width=8,depth=3,pools=2"
LENGTH = {"fit": {"steps": 940}}
RATES = each_try(**{"fit.lr": (3e-3, 1e-2, 3e-2)})


def few(seed: int) -> Data:
    """What the students study."""
    return fm14(seed, 1_000)


def no_dress(seed: int) -> Data:
    """The same without one class."""
    return without(few(seed), DRESS)


def measured(made: Made) -> Mapping[str, float]:
    """The usual numbers; and with a scalar added to one class's logit, chosen on validation: how many dresses are found, at what price."""
    assert made.data.validation is not None
    chosen = _bias(predict(made.product, made.data.validation))
    before, after = _parts(made.shown, 0.0), _parts(made.shown, chosen)
    return {**outcome(made), "dresses found": after[0], "others lost": before[1] - after[1]}


def _bias(shown: Predictions) -> float:
    """The scalar with the most right answers on all classes; of equal ones the smallest."""
    hard = shown.hard()
    assert hard is not None
    right = {}
    for bias in torch.arange(-5.0, 20.0, 0.1).tolist():
        right[bias] = int((_choices(shown, bias) == hard).sum())
    return max(right, key=lambda bias: (right[bias], -abs(bias)))


def _parts(shown: Predictions, bias: float) -> tuple[float, float]:
    """The share of right answers on dresses, and on all others."""
    hard = shown.hard()
    assert hard is not None
    right, dress = _choices(shown, bias) == hard, hard == DRESS
    return float(right[dress].float().mean()), float(right[~dress].float().mean())


def _choices(shown: Predictions, bias: float) -> torch.Tensor:
    logits_NV = shown.logits.clone()
    logits_NV[:, DRESS] += bias
    return logits_NV.argmax(-1)


REPRODUCTION = Reproduction(
    claim="A small net that studies 1,000 images is right more often by over a point when a teacher's soft targets guide it; and one that "
    "has never seen a dress finds more than half of them after one bias is set, which labels alone do not give.",
    bench="Fashion-MNIST at 14x14. Teacher: three convolutions, 32-64-128, trained on 20,000 images for 1,560 updates. Students: 8-16-32, "
    "6,274 parameters, 1,000 of these images, 940 updates. Each seed cuts its own images and trains its own teacher.",
    data=few,
    measured=measured,
    fixtures={
        "teacher": Arm(
            "the teacher, on 20,000 images",
            student="cnn:width=32,depth=3,pools=2",
            recipe="alone",
            knobs={"fit": {"steps": 1560, "batch_size": 128, "lr": 3e-3}},
            data=lambda seed: fm14(seed, 20_000),
        )
    },
    arms={
        "teacher": Arm("the teacher as it is", fixture="teacher"),
        "alone": Arm("the student on the labels alone", STUDENT, "alone", knobs=LENGTH, tries=RATES),
        "taught": Arm("the student on soft targets and labels", STUDENT, "hinton-kd", "teacher", knobs=LENGTH, tries=RATES),
        "alone, no dress": Arm("on the labels alone, no dress among them", STUDENT, "alone", knobs=LENGTH, tries=RATES, data=no_dress),
        "taught, no dress": Arm(
            "on soft targets and labels, no dress among them", STUDENT, "hinton-kd", "teacher", knobs=LENGTH, tries=RATES, data=no_dress
        ),
    },
    predictions=[
        Difference("accuracy", "taught", "alone", over=0.01),
        Level("dresses found", "taught, no dress", above=0.5),
        Level("others lost", "taught, no dress", below=0.03),
        Difference("dresses found", "taught, no dress", "alone, no dress", over=0.2),
    ],
    reported=("accuracy", "nll", "ece", "dresses found"),
    seeds=10,
    minutes=6,
)
