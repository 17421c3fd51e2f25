"""Romero et al., 2015: a deep thin net that learns badly from the end alone learns well after a hint in its middle."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.recipes import recipe
from tutelage.recipes.fitnets import fitnets
from tutelage.reproductions.harness import Arm, Difference, Reproduction, Trend, each_try
from tutelage.reproductions.harness.benches import fm14
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Fit, Plan

DEPTHS = (5, 9, 13)
UPDATES, HINT = 1_000, 250
RATES = (3e-3, 1e-2, 3e-2)
CARE = {"warmup": 0.1, "clip": 1.0}
"""Without it nets of eight channels die at the rates that are best, whatever they are taught by."""


def studied(seed: int) -> Data:
    """What teacher and students study."""
    return fm14(seed, 5_000)


@recipe(matches="logits", needs_labels=True)
def second_stage(teacher: Teacher, student: Model, data: Data, *, fit: Fit = Fit(epochs=30)) -> Plan:
    """The second stage of `fitnets` alone: labels and soft targets of falling weight, without the hint before.

    Args:
        teacher: a frozen classifier over the same classes.
        student: the model to train.
        data: samples with labels.
        fit: duration and optimizer.
    """
    return Plan([fitnets(teacher, student, data, fit=fit).parts[1]], student)


def _arms() -> dict[str, Arm]:
    arms = {"teacher": Arm("the teacher as it is", fixture="teacher")}
    for depth in DEPTHS:
        net = f"cnn:width=8,depth={depth},pools=1,grow=1,norm=false,init=he"
        whole = {"fit": {"steps": UPDATES, **CARE}}
        parted = {
            "fit": {"steps": UPDATES - HINT, **CARE},
            "hint_fit": {"steps": HINT, **CARE},
            "hint": "blocks.1",
            "guided": f"blocks.{depth // 2}",
        }
        both = each_try(**{"fit.lr": RATES, "hint_fit.lr": RATES})
        one = each_try(**{"fit.lr": RATES})
        arms |= {
            f"alone, {depth}": Arm(f"{depth} layers on the labels alone", net, "alone", knobs=whole, tries=one),
            f"taught, {depth}": Arm(f"{depth} layers on labels and soft targets", net, second_stage, "teacher", knobs=whole, tries=one),
            f"hinted, {depth}": Arm(f"{depth} layers, a hint first, then likewise", net, "fitnets", "teacher", knobs=parted, tries=both),
        }
    return arms


REPRODUCTION = Reproduction(
    claim="A thin net of 13 plain layers is right more often when its first updates go into predicting a hint of the teacher, and it "
    "gains the more by that the deeper it is.",
    bench="Fashion-MNIST at 14x14, 5,000 images. Teacher: four convolutions of width 64 with batch norm, 800 updates. Students: 5, 9 and "
    "13 convolutions of width 8 without batch norm or shortcuts, He's first weights, 1,000 updates, of which the hint takes 250. Each seed "
    "cuts its own images and trains its own teacher.",
    data=studied,
    fixtures={
        "teacher": Arm(
            "the teacher",
            student="cnn:width=64,depth=4,pools=1,grow=1",
            recipe="alone",
            knobs={"fit": {"steps": 800, "lr": 3e-3}},
        )
    },
    arms=_arms(),
    predictions=[
        Difference("accuracy", "hinted, 13", "taught, 13", matters=0.005),
        Trend(
            "accuracy",
            tuple(f"hinted, {d}" for d in DEPTHS),
            tuple(f"taught, {d}" for d in DEPTHS),
            levels=tuple(map(float, DEPTHS)),
            matters=0.005,
        ),
    ],
    seeds=8,
    minutes=18,
)
