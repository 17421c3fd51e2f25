"""Zhao et al., "Mitigating the Accuracy-Robustness Trade-off via Balanced Multi-Teacher Adversarial Distillation", 2022 and 2024."""

from __future__ import annotations

from tutelage.attacks import Attack, Attacked
from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.objectives import EntropyBalance, LossBalance, WatchedMatch, soft_targets
from tutelage.recipes import Paper, recipe
from tutelage.recipes.pgd_at import VIEW, check_images
from tutelage.signals import Model
from tutelage.teachers import Pool, Teacher
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "Mitigating Accuracy-Robustness Trade-off via Balanced Multi-Teacher Adversarial Distillation",
    authors="Zhao et al.",
    year=2024,
    url="https://arxiv.org/abs/2306.16170",
    claim="CIFAR-10 and CIFAR-100, ResNet-18 and MobileNetV2: the best mean of clean and robust accuracy, above adversarial training and "
    "distillation from one robust teacher, with a clean accuracy near that of the clean teacher.",
)

CLEAN, ROBUST = "clean", "robust"


@recipe(
    paper=PAPER,
    matches="logits",
    tune={"temperature_rate": (1e-4, 1e-2, "log"), "balance_rate": (5e-3, 0.1, "log")},
    teachers={ROBUST: "pgd-at"},
    robust=True,
)
def mtard(
    clean: Teacher,
    robust: Teacher,
    student: Model,
    data: Data,
    *,
    attack: Attack = Attack(eps=8 / 255, steps=10, start="near"),
    temperature_rate: float = 1e-3,
    balance_rate: float = 0.025,
    fit: Fit = Fit(epochs=50, optimizer="sgd", lr=0.1, batch_size=128, weight_decay=2e-4, schedule="steps"),
) -> Plan:
    """Train a robust student that stays accurate: one teacher for images as they are, another, robust one for attacked images.

    Loss: w_c KL(clean at T_c on x || student on x) + w_r KL(robust at T_r on x' || student on x'), x' the images under an attack on the
    student; the student's temperature is 1, no labels. Means over samples. After each step T_c and T_r move by temperature_rate so that
    both teachers become equally uncertain (`EntropyBalance`, within 1 to 10), and w_c and w_r by balance_rate so that both losses fall
    equally fast, relative to the first step (`LossBalance`, sum 1).

    Args:
        clean: a teacher that is accurate on images as they are; asked only about these, so a cache will do that holds all classes.
        robust: a teacher that withstands the attack; asked about attacked images, which no cache holds.
        student: the model to train.
        data: images in [0, 1]; a model's own normalisation comes behind the attack.
        attack: how far images are changed, and how the change is looked for; against "teacher" is the robust one.
        temperature_rate: how far the temperatures move at a step; 0 leaves both at 1.
        balance_rate: how far the weights move at a step, in [0, 1]; 0 leaves both at 0.5.
        fit: duration and optimizer.

    Raises:
        BadInput: samples that are no images in [0, 1], a rate outside its range, no labels where the attack is against them, or a robust
            teacher that is a cache.

    Cost: a pass of each teacher, two passes of the student to train, and one forward and backward for each step of the attack.
    Data: labels only for the attack; against=self or against=teacher needs none.
    Default: attack, rates and optimizer are the paper's, of 300 epochs of CIFAR; duration is ours. In fewer updates a larger
        temperature_rate is needed to get as far. The paper lowers the rates with the learning rate, here they stay.
    Relations: with both rates 0 it is distillation from two teachers with fixed weights; with eps 0 and one teacher for both it is
        `hinton-kd` with alpha 1 and temperature 1. `pgd-at` trains the robust teacher, also with --train-teacher.
    """
    check_images("mtard", data)
    if attack.against == "labels" and not data.train.labelled:
        raise BadInput(f"mtard: {data.name} has no labels, which the attack is against; give attack.against=self or teacher")
    heat = EntropyBalance(CLEAN, ROBUST, rate=temperature_rate)
    balance = LossBalance(CLEAN, ROBUST, rate=balance_rate)
    soft = {name: WatchedMatch(by=soft_targets(heat[name], student_temperature=1.0), name=name) for name in (CLEAN, ROBUST)}
    loss = balance[CLEAN] * soft[CLEAN].on(teacher=CLEAN) + balance[ROBUST] * soft[ROBUST].on(VIEW, teacher=ROBUST)
    view = Attacked(attack, robust if attack.against == "teacher" else None)
    learner = Learner(student, loss, Pool({CLEAN: clean, ROBUST: robust}), views={VIEW: view})
    return Plan([Stage("adversarial", learner, fit, data.train)], student)
