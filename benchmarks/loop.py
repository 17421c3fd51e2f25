"""The loop against a hand-written one: the same models, samples, loss and optimizer, side by side in one run.

    python benchmarks/loop.py

Both do plain knowledge distillation (labels and soft targets, AdamW, cosine schedule, a log line every 20 steps). They take turns within
one run, a block of ten steps each, so that a change in the machine's speed meets both, and the ratio is taken between neighbouring blocks.
Writes `benchmarks/results/loop.json` and the table in the README. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tutelage
from tutelage import CrossEntropy, Fit, Frozen, Learner, Match, Model, Plan, Run, RunOptions, Stage, Table, soft_targets
from tutelage.data import Order
from tutelage.state import Stateful
from tutelage.students import cnn

WARM = 50
BLOCK = 10
BATCH = 64


class Reader(nn.Module):
    """A small transformer classifier over tokens."""

    def __init__(self, width: int, layers: int, words: int = 500, classes: int = 10) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.head(self.body(self.embed(tokens_BT)).mean(1))


Pair = tuple[Table, Callable[[], nn.Module], Callable[[], nn.Module]]


def images(side: int, teacher: int, student: int) -> Pair:
    """A convolutional pair of some widths on square images."""
    made = torch.Generator().manual_seed(0)
    table = Table({"x": torch.randn(2048, 1, side, side, generator=made), "y": torch.randint(0, 10, (2048,), generator=made)})
    return table, lambda: cnn(width=teacher, depth=4), lambda: cnn(width=student, depth=4)


def tokens(length: int, teacher: int, student: int) -> Pair:
    """A transformer pair of some widths on sequences of tokens."""
    made = torch.Generator().manual_seed(0)
    table = Table({"x": torch.randint(0, 500, (2048, length), generator=made), "y": torch.randint(0, 10, (2048,), generator=made)})
    return table, lambda: Reader(teacher, 4), lambda: Reader(student, 2)


PAIRS: dict[str, tuple[Callable[[], Pair], int]] = {
    "convolutional, 32x32 images, width 32 to 16": (lambda: images(32, 32, 16), 400),
    "transformer, 64 tokens, width 128 to 64": (lambda: tokens(64, 128, 64), 400),
    "convolutional, 8x8 images, width 32 to 4 (as small as it gets)": (lambda: images(8, 32, 4), 2000),
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


class Alternate(Stateful):
    """After each block of our steps, stops our watch and lets the other loop go on for as many."""

    def __init__(self, other: ByHand) -> None:
        self.other, self.ours, self.hand = other, [], []  # type: tuple[ByHand, list[float], list[float]]
        self.mark = 0.0

    def after_step(self, step: object) -> None:
        """Take the times at the end of a block."""
        if (step.clock.step + 1) % BLOCK:  # type: ignore[attr-defined]
            return
        now = time.perf_counter()
        self.ours.append(now - self.mark)
        self.other.run(BLOCK)
        self.mark = time.perf_counter()
        self.hand.append(self.mark - now)


def measure(pair: Callable[[], Pair], steps: int) -> dict[str, dict[str, float]]:
    """Train both, block by block in turn, with our default options and a run folder, and compare neighbouring blocks."""
    table, big, small = pair()
    torch.manual_seed(0)
    teacher, first, second = big(), small(), small()
    second.load_state_dict(first.state_dict())
    sides = Alternate(ByHand(table, teacher, first, steps))
    loss = 0.1 * CrossEntropy() + 0.9 * Match("logits", by=soft_targets(4.0), name="soft")
    pupil = Model(second)
    stage = Stage("distil", Learner(pupil, loss, Frozen(Model(teacher))), Fit(steps=steps, batch_size=BATCH), table, parts=[sides])
    with tempfile.TemporaryDirectory() as folder:
        tutelage.train(Plan([stage], pupil), Run(Path(folder), options=RunOptions(quiet=True)))
    for ours, theirs in zip(second.parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)  # they did the same work
    warm = slice(WARM // BLOCK, None)
    hand, ours_ = ([t / BLOCK * 1e3 for t in times[warm]] for times in (sides.hand, sides.ours))
    ratios = [a / b for a, b in zip(ours_, hand, strict=True)]
    return {"by_hand_ms": spread(hand), "tutelage_ms": spread(ours_), "ratio": spread(ratios)}


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 4), "lower_quartile": round(low, 4), "upper_quartile": round(high, 4)}


def main() -> None:
    """Measure the pairs, write the results, and put their table into the README."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows: list[dict[str, Any]] = []
    for name, (pair, steps) in PAIRS.items():
        found = measure(pair, steps)
        rows.append({"pair": name, "steps": steps, **found})
        hand, ours, ratio = found["by_hand_ms"]["median"], found["tutelage_ms"]["median"], found["ratio"]
        print(
            f"{name}: by hand {hand:.2f} ms, tutelage {ours:.2f} ms a step; "
            f"ratio {ratio['median']:.3f} (quartiles {ratio['lower_quartile']:.3f} to {ratio['upper_quartile']:.3f})"
        )
    about = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "batch_size": BATCH,
        "block": BLOCK,
        "rows": rows,
    }
    out = Path(__file__).parent / "results" / "loop.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(about, indent=1) + "\n")
    readme = Path(__file__).parent.parent / "README.md"
    before, _, rest = readme.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    readme.write_text(f"{before}{MARKS[0]}\n{as_table(about)}\n{MARKS[1]}{after}")


MARKS = "<!-- benchmarks/loop.py begins -->", "<!-- benchmarks/loop.py ends -->"


def as_table(about: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = ["| pair, batch 64 | by hand, ms a step | tutelage, ms a step | ratio (quartiles) |", "|---|---|---|---|"]
    for row in about["rows"]:
        ratio = row["ratio"]
        span = f"{ratio['median']:.3f} ({ratio['lower_quartile']:.3f} to {ratio['upper_quartile']:.3f})"
        lines.append(f"| {row['pair']} | {row['by_hand_ms']['median']:.2f} | {row['tutelage_ms']['median']:.2f} | {span} |")
    lines += ["", f"torch {about['torch']}, Python {about['python']}, {about['threads']} threads on {about['cores']} cores."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
