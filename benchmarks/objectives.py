"""Objectives: what a training step costs by what the student has to match, against plain knowledge distillation.

Each block is a short training of its own on the same pair and samples; its first steps are not counted. The objectives take turns.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

import tutelage
from nets import BATCH, built, images
from timing import Row, compared
from tutelage import (
    CrossEntropy,
    Fit,
    Frozen,
    Learner,
    Match,
    Model,
    Objective,
    Plan,
    Run,
    RunOptions,
    Stage,
    Table,
    cosine,
    jensen_shannon,
    mse,
    regressor,
    soft_cross_entropy,
    soft_targets,
    valid_conv,
)
from tutelage.objectives import (
    ConfidenceWeighted,
    EntropyBalance,
    LossBalance,
    LossDriven,
    WatchedMatch,
    grid_conv,
    interpolated_target,
    label_mix,
    permuted_dark,
    probability_cross_entropy,
    skew_kl,
)
from tutelage.state import Stateful

TITLE = "objectives"
NOTE = (
    "Steps of `tutelage.train`, convolutional pair (16x16 images, width 32 to 16), 20 steps a block after 5 that are not counted. "
    "Compared with labels and soft targets, `0.1 * CrossEntropy() + 0.9 * Match('logits', by=soft_targets(4.0))`. The first row is "
    "the student alone, without a teacher's pass. Features are matched after the second of four blocks, where the teacher's pass "
    "then ends; those through `valid_conv` (on maps, `grid_conv` is the same) after the student's first, whose map is twice as large."
)

PLAIN = "labels and soft_targets"
WARM, STEPS, ROUNDS = 5, 20, 10


def objectives() -> dict[str, Objective]:
    """What the student has to match, by name."""

    def beside_labels(match: Match) -> Objective:
        return 0.1 * CrossEntropy() + 0.9 * match

    def balanced() -> Objective:
        heat, share = EntropyBalance("one", "other"), LossBalance("one", "other")
        first, second = (share[n] * WatchedMatch(by=soft_targets(heat[n], student_temperature=1.0), name=n) for n in ("one", "other"))
        return first + second

    half = "blocks.1"
    return {
        PLAIN: beside_labels(Match("logits", by=soft_targets(4.0))),
        "labels alone, no teacher": CrossEntropy(),
        "labels by the teacher's confidence (ConfidenceWeighted)": ConfidenceWeighted(),
        "labels and soft_targets, reverse": beside_labels(Match("logits", by=soft_targets(4.0, direction="reverse"))),
        "labels and soft_cross_entropy": beside_labels(Match("logits", by=soft_cross_entropy(4.0))),
        "labels and jensen_shannon": beside_labels(Match("logits", by=jensen_shannon(0.5, 4.0))),
        "labels and skew_kl": beside_labels(Match("logits", by=skew_kl(0.1, temperature=4.0))),
        "labels and interpolated_target, moved by LossDriven": beside_labels(Match("logits", by=interpolated_target(LossDriven("logits")))),
        "two soft targets (WatchedMatch), moved by EntropyBalance and LossBalance": balanced(),
        "labels and mse of logits": beside_labels(Match("logits", by=mse())),
        "labels and permuted_dark": beside_labels(Match("logits", by=soft_cross_entropy(4.0), target=permuted_dark())),
        "label_mix by probability_cross_entropy": Match(
            "logits", "probabilities", by=probability_cross_entropy(), target=label_mix(0.5), name="mixed"
        ),
        "labels and mse of features through regressor": beside_labels(Match(half, through=regressor(), by=mse())),
        "labels and cosine of features through regressor": beside_labels(Match(half, through=regressor(), by=cosine())),
        "labels and mse of features through valid_conv": beside_labels(Match("blocks.0", half, through=valid_conv(), by=mse())),
        "labels and mse of features through grid_conv": beside_labels(Match("blocks.0", half, through=grid_conv(), by=mse())),
    }


class Probabilities(nn.Module):
    """A net that also shows its probabilities as a tap, for `label_mix`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.blocks, self.head, self.probabilities = net.blocks, net.head, nn.Softmax(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits."""
        logits = self.head(self.blocks(x).mean((2, 3)))
        self.probabilities(logits)
        return logits


class Stopwatch(Stateful):
    """Takes the time after each step."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def after_step(self, step: Any) -> None:
        """Take the time."""
        self.marks.append(time.perf_counter())


def block(table: Table, teacher: nn.Module, student: nn.Module, loss: Objective, steps: int = STEPS) -> float:
    """Seconds of some steps of a short training, after those that do not count."""
    watch, pupil = Stopwatch(), Model(student)
    learner = Learner(pupil, loss, Frozen(Model(teacher)) if loss.needs().teacher is not None else None)
    stage = Stage("distil", learner, Fit(steps=WARM + steps, batch_size=BATCH), table, parts=[watch])
    tutelage.train(Plan([stage], pupil), Run(options=RunOptions(quiet=True)))
    return watch.marks[-1] - watch.marks[WARM - 1]


def note() -> str:
    """How it was measured."""
    return NOTE


def rows(rounds: int = ROUNDS, steps: int = STEPS) -> list[Row]:
    """The rows of the table."""
    table, teacher, student, _ = built(images(16, 32, 16))
    teacher = Probabilities(teacher).eval()
    names = list(objectives())
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1 + rounds):  # the first round does not count
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds = block(table, teacher, student, objectives()[name], steps)
            if number:
                taken[name].append(seconds)
    return [
        compared(f"a training step, {name}", PLAIN, taken[PLAIN], taken[name], each=steps, brief=False) for name in names if name != PLAIN
    ]
