"""A cached teacher: a step from disk against a step without a teacher and one with the teacher running, and when writing is paid off.

Two trainings take turns within one process, a block of ten steps each: one runs in a thread of its own, which rests while the other
works. All are `tutelage.train` with its default options.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

import tutelage
from nets import BATCH, Pair, built, images, same, tokens
from timing import Alternate, Row, compared
from tutelage import CrossEntropy, Fit, Frozen, Learner, Match, Model, Objective, Plan, Run, RunOptions, Stage, Table, mse, soft_targets
from tutelage.data import Data
from tutelage.jobs.cache import cache
from tutelage.objectives import regressor
from tutelage.state import Stateful
from tutelage.teachers import Cached, Teacher

TITLE = "cache"
NOTE = (
    "Plain knowledge distillation from `Cached` against the student alone (labels only) and against the same with the teacher running, in "
    "blocks of ten steps in turn; that the student taught from disk has the weights of the one taught by the model is checked. The step "
    "from disk has a term more than the student alone, so the ratio holds the cost of that term too. *With a feature* adds the squared "
    "error of a map of the teacher, 32 KB a sample, to the loss. *Trainings* are reckoned from the times of a step and, for the cache, the "
    "time of writing it; they were not timed to their end. The files were in the system's memory, as they are from the second epoch on "
    "where they fit."
)

WARM, BLOCK = 50, 10
PAIRS: dict[str, tuple[Callable[[], Pair], int]] = {
    "convolutional, 32x32 images, width 32 to 16": (lambda: images(32, 32, 16), 300),
    "transformer, 64 tokens, width 128 to 64": (lambda: tokens(64, 128, 64), 300),
    "convolutional, 8x8 images, width 32 to 4 (as small as it gets)": (lambda: images(8, 32, 4), 1500),
}
HINT = "blocks.1"
PAID = ((1, 1), (3, 1), (30, 1), (30, 5))
"""Epochs, and students, of the reckoned trainings."""


class Pausing(Stateful):
    """Stops a training after each block until it is told to go on."""

    def __init__(self, block: int) -> None:
        self.block, self.go, self.rests = block, threading.Semaphore(0), threading.Semaphore(0)

    def after_step(self, step: Any) -> None:
        """Rest at the end of a block."""
        if (step.clock.step + 1) % self.block == 0:
            self.rests.release()
            if step.clock.step + 1 < step.clock.steps:
                self.go.acquire()


class Aside:
    """A training by `tutelage.train` that goes on for a block when it is told to, in a thread of its own."""

    def __init__(self, table: Table, student: nn.Module, loss: Objective, teacher: Teacher | None, steps: int, block: int) -> None:
        self.pause, self.failed, self.begun = Pausing(block), [], False
        self.thread = threading.Thread(target=self._train, args=(table, student, loss, teacher, steps), daemon=True)

    def _train(self, *what: Any) -> None:
        try:
            trained(*what, part=self.pause)
        except BaseException as error:
            self.failed.append(error)
            self.pause.rests.release()

    def run(self, steps: int) -> None:
        """Go on for one block."""
        if self.begun:
            self.pause.go.release()
        else:
            self.begun = True
            self.thread.start()
        self.pause.rests.acquire()
        if self.failed:
            raise self.failed[0]


def trained(table: Table, student: nn.Module, loss: Objective, teacher: Teacher | None, steps: int, part: Stateful) -> None:
    """Train with our default options."""
    pupil = Model(student)
    stage = Stage("distil", Learner(pupil, loss, teacher), Fit(steps=steps, batch_size=BATCH), table, parts=[part])
    tutelage.train(Plan([stage], pupil), Run(options=RunOptions(quiet=True)))


def lessons(hint: bool) -> Objective:
    """Labels and soft targets; and a feature, where it is asked for."""
    loss: Objective = 0.1 * CrossEntropy() + 0.9 * Match("logits", by=soft_targets(4.0), name="soft")
    return loss + 0.5 * Match(HINT, through=regressor(), by=mse(), name="hint") if hint else loss


def beside(
    pair: Pair, other: tuple[Objective, Teacher | None], ours: tuple[Objective, Teacher], steps: int, equal: bool
) -> tuple[Any, Any]:
    """Two trainings of the same student in turn; seconds of the other's blocks and of ours, without the first ones."""
    table, _, first, second = built(pair)
    aside = Aside(table, first, other[0], other[1], steps, BLOCK)
    sides = Alternate(aside, BLOCK, (lambda: same(first, second)) if equal else (lambda: None))
    trained(table, second, ours[0], ours[1], steps, sides)
    aside.thread.join(60)
    warm = slice(min(WARM // BLOCK, len(sides.ours) // 2), None)
    return sides.others[warm], sides.ours[warm]


def written(pair: Pair, folder: Path, taps: tuple[str, ...]) -> tuple[Model, float]:
    """Write the teacher's cache; the teacher, and seconds of the whole command's work."""
    table, teacher, _, _ = built(pair)
    model = Model(teacher, name="teacher", trained=True)
    begun = time.perf_counter()
    cache(model, Data(table), out=folder, taps=taps, evaluation=False, options=RunOptions(quiet=True))
    return model, time.perf_counter() - begun


def measure(name: str, pair: Pair, steps: int, hint: bool = False) -> list[Row]:
    """The rows of one pair."""
    found, against = [], "the teacher running"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "cache"
        model, writing = written(pair, folder, (HINT,) if hint else ())
        loss, online, cached = lessons(hint), Frozen(model), Cached(folder)
        where = f"{name}, with a feature" if hint else name
        if not hint:
            taken = beside(pair, (CrossEntropy(), None), (loss, cached), steps, equal=False)
            found.append(
                compared(f"a step from a cache, {where}", "the student alone", *taken, each=BLOCK, target={"ratio": 1.05}, brief=True)
            )
        taken = beside(pair, (lessons(hint), online), (loss, cached), steps, equal=True)
        found.append(compared(f"a step from a cache, {where}", against, *taken, each=BLOCK))
        if not hint:
            found += paid(where, len(pair[0]), writing, *taken)
    return found


def paid(where: str, samples: int, writing: float, running: list[float], cached: list[float]) -> list[Row]:
    """Whole trainings, reckoned from the times of steps and of writing."""
    rows = []
    for epochs, students in PAID:
        steps = epochs * students * samples / BATCH / BLOCK
        ours = [writing + seconds * steps for seconds in cached]
        many = f"{epochs} epoch{'s' * (epochs > 1)}, {students} student{'s' * (students > 1)}"
        rows.append(
            compared(
                f"trainings from a cache, writing it included: {many}; {where}", "the teacher running", [s * steps for s in running], ours
            )
        )
    return rows


def note() -> str:
    """How it was measured."""
    return NOTE


def rows() -> list[Row]:
    """The rows of the table."""
    found = [row for name, (pair, steps) in PAIRS.items() for row in measure(name, pair(), steps)]
    name, (pair, steps) = next(iter(PAIRS.items()))
    return [*found, *measure(name, pair(), steps, hint=True)]
