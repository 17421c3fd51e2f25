"""The loop against a hand-written one: the same models, samples, loss and optimizer, side by side in one run.

    python benchmarks/loop.py [--rounds 9] [--steps 120]

Both do plain knowledge distillation (labels and soft targets, AdamW, cosine schedule, a log line every 20 steps). Rounds alternate, hand
first and then ours, so that a change in the machine's speed meets both; the ratio is taken round by round. Writes
`benchmarks/results/loop.json` and prints the table. Run it on an otherwise idle machine.
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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tutelage
from tutelage import CrossEntropy, Fit, Frozen, Learner, Match, Model, Plan, Run, RunOptions, Stage, Table, soft_targets
from tutelage.data import Order
from tutelage.state import Stateful
from tutelage.students import cnn

WARM = 20
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


def images() -> tuple[Table, Callable[[], nn.Module], Callable[[], nn.Module]]:
    """A convolutional pair on 16x16 images."""
    made = torch.Generator().manual_seed(0)
    table = Table({"x": torch.randn(2048, 1, 16, 16, generator=made), "y": torch.randint(0, 10, (2048,), generator=made)})
    return table, lambda: cnn(width=32, depth=4), lambda: cnn(width=16, depth=4)


def tokens() -> tuple[Table, Callable[[], nn.Module], Callable[[], nn.Module]]:
    """A transformer pair on 32 tokens."""
    made = torch.Generator().manual_seed(0)
    table = Table({"x": torch.randint(0, 500, (2048, 32), generator=made), "y": torch.randint(0, 10, (2048,), generator=made)})
    return table, lambda: Reader(64, 4), lambda: Reader(32, 2)


class Watch(Stateful):
    """Notes when the steps after the warm-up begin and end."""

    def __init__(self, steps: int) -> None:
        self.steps, self.start, self.seconds = steps, 0.0, 0.0

    def after_step(self, step: object) -> None:
        """Start or stop the watch."""
        done = step.clock.step + 1  # type: ignore[attr-defined]
        if done == WARM:
            self.start = time.perf_counter()
        elif done == self.steps:
            self.seconds = time.perf_counter() - self.start


def ours(table: Table, teacher: nn.Module, student: nn.Module, steps: int) -> float:
    """Seconds of the steps after the warm-up in tutelage's loop, with its default options and a run folder."""
    watch = Watch(steps)
    loss = 0.1 * CrossEntropy() + 0.9 * Match("logits", by=soft_targets(4.0), name="soft")
    fit = Fit(steps=steps, batch_size=BATCH)
    pupil = Model(student)
    stage = Stage("distil", Learner(pupil, loss, Frozen(Model(teacher))), fit, table, parts=[watch])
    with tempfile.TemporaryDirectory() as folder:
        tutelage.train(Plan([stage], pupil), Run(Path(folder), options=RunOptions(quiet=True)))
    return watch.seconds


def by_hand(table: Table, teacher: nn.Module, student: nn.Module, steps: int) -> float:
    """Seconds of the same steps in a plain loop."""
    order = Order(len(table), BATCH, 0, "distil")
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.01)
    student.train()
    teacher.eval()
    x, y = table.columns["x"], table.columns["y"]
    start, gathered = 0.0, torch.zeros(2)
    for step in range(steps):
        positions, _ = order.batch(step)
        batch, labels = x[positions], y[positions]
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
        logits = student(batch)
        with torch.no_grad():
            goal = teacher(batch)
        hard = F.cross_entropy(logits, labels)
        soft = 16 * F.kl_div(F.log_softmax(logits / 4, -1), F.log_softmax(goal / 4, -1), reduction="batchmean", log_target=True)
        (0.1 * hard + 0.9 * soft).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        gathered += torch.stack([hard.detach(), soft.detach()])
        if (step + 1) % 20 == 0:
            gathered.tolist()
            gathered.zero_()
        if step + 1 == WARM:
            start = time.perf_counter()
    return time.perf_counter() - start


def main() -> None:
    """Measure both pairs and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=420)
    given = parser.parse_args()
    rows = []
    for name, pair in (("convolutional, 16x16 images", images), ("transformer, 32 tokens", tokens)):
        table, big, small = pair()
        torch.manual_seed(0)
        teacher = big()
        hand, loop, ratios = [], [], []
        for number in range(given.rounds):
            for who, times in ((by_hand, hand), (ours, loop)) if number % 2 == 0 else ((ours, loop), (by_hand, hand)):
                torch.manual_seed(number)
                times.append(who(table, teacher, small(), given.steps) / (given.steps - WARM) * 1e3)
            ratios.append(loop[-1] / hand[-1])
        row = {
            "pair": name,
            "hand_ms_per_step": {"median": statistics.median(hand), "min": min(hand), "max": max(hand)},
            "tutelage_ms_per_step": {"median": statistics.median(loop), "min": min(loop), "max": max(loop)},
            "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        }
        rows.append(row)
        print(
            f"{name}: by hand {row['hand_ms_per_step']['median']:.2f} ms, tutelage {row['tutelage_ms_per_step']['median']:.2f} ms a step; "
            f"ratio {row['ratio']['median']:.3f} ({row['ratio']['min']:.3f} to {row['ratio']['max']:.3f}, {given.rounds} rounds)"
        )
    about = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "batch_size": BATCH,
        "steps": given.steps,
        "rounds": given.rounds,
        "rows": rows,
    }
    out = Path(__file__).parent / "results" / "loop.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
