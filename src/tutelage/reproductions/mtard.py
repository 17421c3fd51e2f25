"""Zhao et al., 2022 and 2024: a clean and a robust teacher in balance give the best mean of clean and robust accuracy."""

from __future__ import annotations

from tutelage.attacks import Attack, Attacked
from tutelage.data import Data
from tutelage.objectives import CrossEntropy, Match, soft_targets
from tutelage.recipes import recipe
from tutelage.reproductions.harness import Arm, Difference, NonInferior, Reproduction
from tutelage.reproductions.harness.benches import fm14
from tutelage.reproductions.pgd_at import EPS, measured
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, Stage

TEACHER = "mlp:width=256,depth=2"
STUDENT = "mlp:width=32,depth=2"
TAUGHT = {"fit": {"steps": 400, "batch_size": 128, "lr": 3e-3, "optimizer": "adamw", "schedule": "cosine", "weight_decay": 0.01}}
SCHOOLED = {"fit": {"steps": 600, "batch_size": 128, "lr": 3e-3}}
ATTACK = {"eps": EPS, "steps": 5, "start": "near"}
VIEW = "attacked"


def studied(seed: int) -> Data:
    """What teachers and students study."""
    return fm14(seed, 10_000)


@recipe(matches="logits")
def rslad(
    robust: Teacher,
    student: Model,
    data: Data,
    *,
    attack: Attack = Attack(start="near", against="teacher"),
    plain: float = 1 / 6,
    fit: Fit = Fit(epochs=30),
) -> Plan:
    """Distil one robust teacher, whose probabilities on images as they are stand for labels everywhere, in the attack too.

    Args:
        robust: the teacher.
        student: the model to train.
        data: images in [0, 1].
        attack: against the teacher.
        plain: share of the loss on images as they are.
        fit: duration and optimizer.
    """
    soft = soft_targets(1.0)
    loss = (1 - plain) * Match("logits", by=soft, name="attacked").on(VIEW, teacher_view=None) + plain * Match(
        "logits", by=soft, name="plain"
    )
    return Plan([Stage("distil", Learner(student, loss, robust, views={VIEW: Attacked(attack, robust)}), fit, data.train)], student)


@recipe(matches="logits", needs_labels=True)
def ard(
    robust: Teacher,
    student: Model,
    data: Data,
    *,
    attack: Attack = Attack(start="near"),
    temperature: float = 4.0,
    alpha: float = 0.9,
    fit: Fit = Fit(epochs=30),
) -> Plan:
    """Distil one robust teacher: the student on attacked images follows the teacher on these images as they are, and labels there.

    Args:
        robust: the teacher.
        student: the model to train.
        data: images in [0, 1] with labels.
        attack: against the labels.
        temperature: of the soft targets.
        alpha: their share.
        fit: duration and optimizer.
    """
    soft = Match("logits", by=soft_targets(temperature), name="attacked").on(VIEW, teacher_view=None)
    loss = (1 - alpha) * CrossEntropy() + alpha * soft
    return Plan([Stage("distil", Learner(student, loss, robust, views={VIEW: Attacked(attack)}), fit, data.train)], student)


BOTH = {"clean": "clean teacher", "robust": "robust teacher"}

REPRODUCTION = Reproduction(
    claim="A student of a clean and a robust teacher in balance is right on over a point more images as they are than one of the robust "
    "teacher alone, and its mean of clean and robust accuracy is not below that of the others by half a point.",
    bench="Fashion-MNIST at 14x14, 10,000 images in [0, 1]. Teachers: perceptrons of two hidden layers of 256, 600 updates of 128 images "
    "on the labels alone and under PGD, made once for all seeds. Students: two hidden layers of 32, 400 updates of 128 images, one "
    "learning rate, five steps of PGD, linf 0.1. Judges: PGD-20 on 1,000 test images; the Square attack of the Adversarial Robustness "
    "Toolbox, 100 queries, on 200. Each seed cuts its own images.",
    data=studied,
    measured=measured,
    fixtures={
        "clean teacher": Arm("the clean teacher", TEACHER, "alone", knobs=SCHOOLED, seed=0),
        "robust teacher": Arm("the robust teacher", TEACHER, "pgd-at", knobs={**SCHOOLED, "attack": {"eps": EPS, "steps": 5}}, seed=0),
    },
    arms={
        "pgd-at": Arm("the student on labels, under PGD", STUDENT, "pgd-at", knobs={**TAUGHT, "attack": ATTACK}),
        "ard": Arm("one robust teacher, ARD", STUDENT, ard, "robust teacher", knobs={**TAUGHT, "attack": ATTACK}),
        "rslad": Arm("one robust teacher, RSLAD", STUDENT, rslad, "robust teacher", knobs={**TAUGHT, "attack": ATTACK}),
        "fixed": Arm(
            "both teachers, weights 0.5, temperatures 1",
            STUDENT,
            "mtard",
            teachers=BOTH,
            knobs={**TAUGHT, "attack": ATTACK, "temperature_rate": 0.0, "balance_rate": 0.0},
        ),
        "mtard": Arm(
            "both teachers in balance", STUDENT, "mtard", teachers=BOTH, knobs={**TAUGHT, "attack": ATTACK, "temperature_rate": 0.01}
        ),
    },
    predictions=[
        Difference("accuracy", "mtard", "rslad", over=0.01),
        NonInferior("W-robust", "mtard", "rslad", margin=0.005),
        NonInferior("W-robust", "mtard", "ard", margin=0.005),
        NonInferior("W-robust", "mtard", "pgd-at", margin=0.005),
        NonInferior("W-robust", "mtard", "fixed", margin=0.005),
    ],
    reported=("accuracy", "PGD-20", "Square", "W-robust"),
    seeds=5,
    minutes=5,
)
