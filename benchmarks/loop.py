"""The loop against a hand-written one: the same models, samples, loss and optimizer, side by side in one run.

Both do plain knowledge distillation (labels and soft targets, AdamW, cosine schedule, a log line every 20 steps). They take turns within
one run, a block of ten steps each, so that a change in the machine's speed meets both, and the ratio is taken between neighbouring blocks.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import tutelage
from nets import BATCH, Pair, built, images, same, tokens
from timing import Alternate, Row, Trains, compared
from tutelage import CrossEntropy, Fit, Frozen, Learner, Match, Model, Objective, Plan, Run, RunOptions, Stage, Table, soft_targets
from tutelage.data import Order

TITLE = "loop"
NOTE = (
    "A hand-written loop and `tutelage.train` with its default options do the same knowledge distillation, in blocks of ten steps "
    "in turn; that both have the same weights after the first block is checked. What our loop adds is a constant (terms, masks, "
    "seeds, the log), so it shows most where a step does least: the last pair is that small on purpose."
)

WARM = 50
BLOCK = 10

PAIRS: dict[str, tuple[Callable[[], Pair], int]] = {
    "convolutional, 32x32 images, width 32 to 16": (lambda: images(32, 32, 16), 300),
    "transformer, 64 tokens, width 128 to 64": (lambda: tokens(64, 128, 64), 300),
    "convolutional, 8x8 images, width 32 to 4 (as small as it gets)": (lambda: images(8, 32, 4), 1500),
}
"""What is measured, and for how many steps."""


class ByHand:
    """A plain loop over the same samples, a block of steps at a time."""

    def __init__(self, table: Table, teacher: nn.Module, student: nn.Module, steps: int) -> None:
        self.x, self.y = table.columns["x"], table.columns["y"]
        self.teacher, self.student, self.steps, self.done = teacher.eval(), student.train(), steps, 0
        self.order = Order(len(table), BATCH, 0, "distil")
        self.optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.01)
        self.gathered = torch.zeros(2)

    def run(self, steps: int) -> None:
        """Go on for some steps."""
        for step in range(self.done, self.done + steps):
            positions, _ = self.order.batch(step)
            batch, labels = self.x[positions], self.y[positions]
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            with torch.no_grad():  # the teacher first: the memory it frees serves the student, which is 20 % faster on the images
                goal = self.teacher(batch)
            logits = self.student(batch)
            hard = F.cross_entropy(logits, labels)
            soft = 16 * F.kl_div(F.log_softmax(logits / 4, -1), F.log_softmax(goal / 4, -1), reduction="batchmean", log_target=True)
            (0.1 * hard + 0.9 * soft).backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.gathered += torch.stack([hard.detach(), soft.detach()])
            if (step + 1) % 20 == 0:
                self.gathered.tolist()
                self.gathered.zero_()
        self.done += steps


def distillation() -> Objective:
    """Labels and soft targets."""
    return 0.1 * CrossEntropy() + 0.9 * Match("logits", by=soft_targets(4.0), name="soft")


def beside(
    other: Trains, table: Table, teacher: nn.Module, student: nn.Module, loss: Objective, steps: int, check: Callable[[], None]
) -> tuple[list[float], list[float]]:
    """Train a student with our default options and a run folder, in turn with another training.

    Args:
        other: the other training.
        table: samples.
        teacher: frozen.
        student: trained.
        loss: what ours minimises.
        steps: of each.
        check: called after the first block of both; raises where they differ.

    Returns:
        Seconds of the other's blocks and of ours, without the first ones.
    """
    sides, pupil = Alternate(other, BLOCK, check), Model(student)
    stage = Stage("distil", Learner(pupil, loss, Frozen(Model(teacher))), Fit(steps=steps, batch_size=BATCH), table, parts=[sides])
    with tempfile.TemporaryDirectory() as folder:
        tutelage.train(Plan([stage], pupil), Run(Path(folder), options=RunOptions(quiet=True)))
    warm = slice(min(WARM // BLOCK, len(sides.ours) // 2), None)
    return sides.others[warm], sides.ours[warm]


def measure(name: str, pair: Pair, steps: int) -> Row:
    """Train both, block by block in turn, and compare neighbouring blocks."""
    table, teacher, first, second = built(pair)
    hand = ByHand(table, teacher, first, steps)
    taken = beside(hand, table, teacher, second, distillation(), steps, lambda: same(first, second))
    return compared(f"a training step, {name}", "by hand", *taken, each=BLOCK, target={"ratio": 1.03}, brief=True)


def note() -> str:
    """How it was measured."""
    return NOTE


def rows() -> list[Row]:
    """The rows of the table."""
    return [measure(name, pair(), steps) for name, (pair, steps) in PAIRS.items()]
